"""The report has a word for everything a night may record."""

import pytest

from konomi.report_page import Page
from konomi.report_words import WORDS
from konomi.v1 import rater_pb2


@pytest.mark.parametrize("language", sorted(WORDS))
def test_every_reason_of_rejection_has_words(language):
    reasons = [name.removeprefix("REJECTION_REASON_").lower() for name in rater_pb2.RejectionReason.keys()[1:]]
    assert "unknown" in reasons
    page = Page(language, None, "person")
    rejected = {reason: {"count": 1, "examples": []} for reason in reasons}
    page.selection("unit-1", {"base_share": 0.25, "considered": 9, "n": 1, "selected": [], "rejected": rejected})
    assert page.parts[-1].count("<h4>") == 1 + len(reasons)
