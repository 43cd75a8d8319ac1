"""Code and output in the pages of the manual, run as they stand."""

import contextlib
import io
import os
import re

ROOT = os.environ["SINEW_ROOT"]
HOST = os.environ["SINEW_URL"].removeprefix("grpc://")
BLOCK = re.compile(r"^```(python[^\n]*)\n(.*?)^```\n(?:```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)


def sections(page, language):
    """The sections of a page that have code: heading, and pairs of code and output."""
    with open(os.path.join(ROOT, page)) as file:
        text = file.read()
    for part in re.split(r"^## ", text, flags=re.MULTILINE):
        found = [(code, shown) for word, code, shown in BLOCK.findall(part) if word == language]
        if found:
            yield part.splitlines()[0], found


def run(code_and_output):
    """Runs the blocks of a section one after another; each prints what the page shows."""
    names = {}
    for code, shown in code_and_output:
        code = code.replace("127.0.0.1:50051", HOST).replace("examples/data", os.path.join(ROOT, "examples/data"))
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile(code, "a page of the manual", "exec"), names)
        if shown:
            assert said.getvalue().strip() == shown.strip(), f"{code}\n--- it printed\n{said.getvalue()}"
