"""Writes the tables and figures of README.md from the archived results.

What stands between `<!-- results: NAME -->` and `<!-- end -->` is written anew: what the file
`experiments/NAME.py` makes of its archive with `table(archive)`, text in Markdown, and, where it
has one, with `figure(archive)`, a picture that goes to `experiments/figures/NAME.png`.

    python experiments/report.py            # rewrite README.md and the figures
    python experiments/report.py --check    # only say whether they are up to date; if not, exit 1
"""

import difflib
import hashlib
import importlib
import inspect
import json
import re
import sys
from pathlib import Path

import tyro
from archive import RESULTS, read_archive

EXPERIMENTS = Path(__file__).parent
README = EXPERIMENTS.parent / "README.md"
FIGURES = EXPERIMENTS / "figures"
MARKED = re.compile(r"(<!-- results: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(text: str) -> str:
    """The text with all marked results written anew.

    Raises: SystemExit for results that no experiment has, or of which nothing is archived.
    """

    def write(match):
        begin, name, end = match.groups()
        experiment, archive = find(name), read_archive(name)
        parts = [experiment.table(archive)]
        if hasattr(experiment, "figure"):
            claim = experiment.__doc__.splitlines()[0]
            parts.append(f"![{claim}](experiments/figures/{name}.png)")
        return begin + "\n\n".join(parts) + f"\n{end}"

    return MARKED.sub(write, text)


def require_pairs(text: str) -> None:
    """Raises SystemExit unless every mark that begins results is followed by one that ends them."""
    begun = None
    for mark in re.findall(r"<!-- (results: \S+|end) -->", text):
        if (mark == "end") == (begun is None):
            raise SystemExit(f"README.md: the mark {mark!r} is out of place, after {begun!r}")
        begun = None if mark == "end" else mark
    if begun is not None:
        raise SystemExit(f"README.md: the mark {begun!r} has no end")


def find(name: str):
    """The experiment of a name, as a module."""
    known = sorted(path.stem for path in RESULTS.glob("*.json"))
    if not (EXPERIMENTS / f"{name}.py").exists():
        raise SystemExit(f"README.md asks for the results of {name!r}; archived are {known}")
    if name not in known:
        raise SystemExit(f"nothing is archived: run python experiments/{name}.py")
    return importlib.import_module(name)


def is_drawn(name: str) -> bool:
    """Whether a picture is there and was drawn from the results as they are archived now."""
    from PIL import Image

    try:
        with Image.open(FIGURES / f"{name}.png") as image:
            image.load()  # all of it is there
            return image.info.get("Results") == digest(name)
    except OSError:
        return False


def draw(name: str) -> None:
    """Draws the picture of an experiment, and notes in it what it was drawn from."""
    import matplotlib

    matplotlib.use("agg")
    FIGURES.mkdir(exist_ok=True)
    drawn = find(name).figure(read_archive(name))
    whole = FIGURES / f"{name}.png"
    part = whole.with_name(f".{name}.png")  # of which a kill leaves nothing that looks whole
    drawn.savefig(part, dpi=120, metadata={"Results": digest(name)})
    part.replace(whole)


def digest(name: str) -> str:
    """Of what a picture is made of: results, settings, and the function that draws it."""
    archive = read_archive(name)
    parts = [archive["results"], archive["settings"], inspect.getsource(find(name).figure)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def main(check: bool = False, readme: Path = README) -> None:
    """Write the tables and figures of README.md from the archived results.

    Args:
      check: Change nothing; show what differs, and exit with 1 if anything does.
      readme: The file.
    """
    try:
        old = readme.read_text()
    except OSError as error:
        raise SystemExit(f"{readme} cannot be read: {error.strerror}") from None
    require_pairs(old)
    new = render(old)
    asked = [name for _, name, _ in MARKED.findall(old)]
    stale = [name for name in asked if hasattr(find(name), "figure") and not is_drawn(name)]
    if check and (new != old or stale):
        lines = difflib.unified_diff(old.splitlines(), new.splitlines(), "is", "ought to be")
        lines = [*lines, *(f"figures/{name}.png is not of these results" for name in stale)]
        sys.exit("\n".join([*lines, "README.md is out of date: run python experiments/report.py"]))
    if not check:
        readme.write_text(new)
        for name in stale:
            draw(name)


if __name__ == "__main__":
    tyro.cli(main)
