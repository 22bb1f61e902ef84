"""Checking answers: mathematics is compared, programs run in a sandbox with their tests.

`answer_extraction`, `numbers` and `maths` find and compare final answers; `sandbox` and `unit_tests` run programs,
and `_sandboxed/` is what runs inside the sandbox's processes. It may import `engine` and what lies below it. A new
way to check an answer gets a module here.
"""
