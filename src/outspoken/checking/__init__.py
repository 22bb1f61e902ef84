"""Checking answers: mathematics is compared, programs run in a sandbox with their tests.

`answer_extraction`, `numbers` and `maths` find and compare final answers; `sandbox` and `unit_tests` run programs;
`_sandboxed/` is the code of the sandbox's processes. The room may import `engine` and the layers below it. A new
way to check an answer gets a module here.
"""
