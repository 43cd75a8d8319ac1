"""The Python of the manual runs, and prints what it says."""

import pytest
import snippets

PAGES = ["docs/clients.md", "docs/flight-sql.md", "README.md", "python/README.md"]
ALL = [(page, title, blocks) for page in PAGES for title, blocks in snippets.sections(page, "python")]


@pytest.mark.parametrize(("page", "title", "blocks"), ALL, ids=[f"{page}: {title}" for page, title, _ in ALL])
def test_the_manual_runs(page, title, blocks):
    snippets.run(blocks)


def test_there_is_a_manual():
    assert {page for page, _, _ in ALL} == set(PAGES)
