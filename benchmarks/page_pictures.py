"""Pictures of a page at three widths, light and dark; one of them is the README's.

python -m benchmarks.page_pictures runs/page runs/page_pictures
"""

import sys
from pathlib import Path

from scaling.writing.commands import command, parser_of

from .page import find_program, run_node, served


@command(ValueError, OSError)
def main(arguments: list[str] | None = None) -> None:
    """Runs the command."""
    parser = parser_of("benchmarks.page_pictures", __doc__)
    parser.add_argument("page", type=Path, help="a page that make page has built")
    parser.add_argument("out", type=Path, help="folder of the pictures")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    with served(options.page) as address:
        print(run_node("tests/pictures.mjs", find_program("chromium"), address, options.out))


if __name__ == "__main__":
    sys.exit(main())
