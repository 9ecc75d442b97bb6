"""Build the documentation site: join the pages, write the generated ones, run Sphinx. ``make docs`` calls it.

python scripts/docs/build_site.py

The pages of docs/ are written for readers on GitHub too. They are copied into build/docs/source, where links to files
of the package become links to the reference. Generated pages are written beside them, so that the checkout
stays clean. The site is build/docs/html/index.html. Every warning is an error: a page outside of the table of contents,
a link to nothing, a chapter that fails.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from site_pages import REFERENCE, ROOT, command_pages, galleries, modules_of, reference_pages, systems_page

DOCS = ROOT / "docs"
BUILD = ROOT / "build" / "docs"
OUTSIDE = {
    "contributing": ROOT / "CONTRIBUTING.md",
    "data": ROOT / "data" / "README.md",
    "changelog": ROOT / "CHANGELOG.md",
}
HOWTO = (  # the order of the table of contents; further pages of docs/howto/ follow by name
    *("first_corpus", "summarization", "code_and_phonemes", "names_and_numbers", "little_data"),
    *("without_spaces", "to_a_server", "symptoms", "extend"),
)
KNOWLEDGE = ("road", "laws", "results", "faults", "settings", "serving", "sharing")  # likewise of docs/


# ---- joining


def pages() -> dict[str, Path]:
    """Return the Markdown files of the site by the name of their page."""
    found = {str(file.relative_to(DOCS).with_suffix("")): file for file in sorted(DOCS.glob("**/*.md"))}
    return found | OUTSIDE


def contents(names: set[str]) -> dict[str, list[str]]:
    """Return the table of contents: the pages under each caption.

    Args:
        names: all Markdown pages. The generated pages are added.
    """
    howto = {name.removeprefix("howto/") for name in names if name.startswith("howto/")}
    knowledge = {name for name in names if "/" not in name} - {"index", *OUTSIDE}
    systems = ["systems"] if systems_page() else []
    return {
        "Learn": [*(f"{folder.name}/index" for folder in galleries()), *systems],
        "How to": [f"howto/{name}" for name in _in_order(howto, HOWTO)],
        "Know": _in_order(knowledge, KNOWLEDGE),
        "Look up": ["commands/index", "reference/index"],
        "Project": ["contributing", "data", "changelog"],
    }


def _in_order(names: set[str], order: tuple[str, ...]) -> list[str]:
    return [name for name in order if name in names] + sorted(names - {*order})


def toctrees() -> str:
    """Return the table of contents as directives of MyST."""
    trees = [
        f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(names) + "\n```\n"
        for caption, names in contents(set(pages())).items()
        if names
    ]
    return "\n" + "\n".join(trees)


def joined(text: str, page: str, file: Path) -> str:
    """Return the text of a page with links that lead to pages of the site; fenced code stays.

    Args:
        page: the name of the page on the site.
        file: the file of the page, from which its relative links start.
    """
    parts = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    link = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")
    return "".join(part if at % 2 else link.sub(lambda m: _link(m, page, file), part) for at, part in enumerate(parts))


def _link(match: re.Match[str], page: str, file: Path) -> str:
    text, target = match[1], match[2]
    if re.match(r"\w+:|#", target):
        return match[0]
    name, _, anchor = target.partition("#")
    path = (file.parent / name).resolve()
    by_file = {file.resolve(): page for page, file in pages().items()} | {ROOT / "README.md": "index"}
    if not path.exists():
        return match[0]  # Sphinx reports it
    if path in by_file:
        relative = os.path.relpath(f"{by_file[path]}.md", Path(page).parent)
        return f"[{text}]({relative}{f'#{anchor}' if anchor and by_file[path] != 'index' else ''})"
    plain = text.strip("`")
    if path.is_relative_to(ROOT / "seq2seq") and path.suffix == ".py":
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if any(module in modules_of(subject) for subject in REFERENCE):
            defined = re.search(rf"^(class|def) {re.escape(plain)}\b", path.read_text(encoding="utf-8"), re.MULTILINE)
            return f"{{py:obj}}`{plain} <{module}{f'.{plain}' if defined else ''}>`"
    for folder in galleries():
        if path == folder or path.parent == folder:
            return f"{{doc}}`{plain} </{folder.name}/{'index' if path == folder else path.stem}>`"
    if path.is_relative_to(ROOT / "scripts" / "tutorial") and systems_page():
        return f"{{doc}}`{plain} </systems>`"
    return text  # a file of the checkout, which the site does not show


def source_files() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of every file of the source folder of Sphinx."""
    for page, file in pages().items():
        text = joined(file.read_text(encoding="utf-8"), page, file)
        yield f"{page}.md", text + toctrees() if page == "index" else text
    yield from command_pages()
    yield from reference_pages()
    if systems := systems_page():
        yield "systems.rst", systems


def write_source(folder: Path) -> None:
    """Write the source folder; files that are unchanged keep their time, so that Sphinx does not read them again."""
    written = set()
    for name, text in source_files():
        target = folder / name
        written.add(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.write_text(text, encoding="utf-8", newline="\n")
    for image in [*DOCS.glob("*.svg"), *DOCS.glob("*.png")]:
        shutil.copy2(image, folder / image.name)
    chapters = {folder / gallery.name / "index.rst" for gallery in galleries()}  # written by sphinx-gallery
    chapters |= {folder / gallery.name / f"{file.stem}.rst" for gallery in galleries() for file in gallery.glob("*.py")}
    for file in {*folder.rglob("*.md"), *folder.rglob("*.rst")} - written - chapters:  # pages that are gone
        file.unlink()


# ---- building


def main() -> None:
    """Join the pages and run Sphinx."""
    parser = argparse.ArgumentParser(description="Build the documentation site in build/docs/html.")
    parser.add_argument("--no-chapters", action="store_true", help="show the chapters without executing them")
    jobs = os.cpu_count() or 1
    parser.add_argument(
        "--jobs", type=int, default=jobs, help=f"processes that execute chapters at the same time ({jobs})"
    )
    options = parser.parse_args()
    source, html = BUILD / "source", BUILD / "html"
    source.mkdir(parents=True, exist_ok=True)
    write_source(source)
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-c", str(DOCS), "-d", str(BUILD / "doctrees")]
    command += ["--fail-on-warning", "--keep-going", "--quiet", str(source), str(html)]
    settings = {"DOCS_JOBS": str(options.jobs), "DOCS_CHAPTERS": "0" if options.no_chapters else "1"}  # for conf.py
    done = subprocess.run(command, cwd=ROOT, check=False, env=os.environ | settings)
    if done.returncode:
        sys.exit(
            f"the documentation has errors: read the lines with WARNING, ERROR or a traceback above; the pages are in {source}"
        )
    print(f"wrote {(html / 'index.html').relative_to(ROOT)}")


if __name__ == "__main__":
    main()
