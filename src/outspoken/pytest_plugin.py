"""A fixture for tests of the diversity of responses. Loading this module imports nothing of the package."""

import pytest

__all__ = ["outspoken_diversity"]


@pytest.fixture
def outspoken_diversity():  # type: ignore[no-untyped-def]  # types would have to be imported
    """Fail the test if responses are less diverse than a limit, or more often refused.

    outspoken_diversity(responses, fail_under={"distinct_answers": 5}, fail_over={"refusals": 0.05})

    The responses are a list of texts for one prompt, a mapping of prompts to lists of texts, rows with
    prompt and text, or files (paths) as `outspoken measure` reads them. The limits are in the unit in which
    `outspoken measure` shows the figures. A test fails if the whole 95 % interval of a figure is beyond its limit,
    with strict=True if any of it is. Other keyword arguments are those of `outspoken.measure.measure`, such as
    `reference`, `same`, `by` and `seed`. Returns the analysis.
    """

    def measured(responses, *, fail_under=None, fail_over=None, strict=False, **options):  # type: ignore[no-untyped-def]
        from outspoken.errors import OutspokenError

        try:
            from outspoken.measure.fixture import checked

            analysis, result = checked(responses, fail_under, fail_over, strict, options)
        except OutspokenError as error:
            pytest.fail(str(error), pytrace=False)
        if not result.passed:
            pytest.fail("\n".join(result.lines), pytrace=False)
        return analysis

    return measured
