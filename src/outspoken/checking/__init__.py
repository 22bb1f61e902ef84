"""Whether an answer is right: mathematics compared, programs run in a sandbox, unit tests."""
