"""A new API key: `python -m rakuten.serve.keys NAME` prints it, this once, and the line that the service knows it by."""

import argparse
import re
import secrets
import sys

from rakuten.serve.security import hash_key
from rakuten.serve.settings import KEY

KEY_BYTES = 32


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m rakuten.serve.keys", description=__doc__)
    parser.add_argument("name", help="whose key it is: letters, digits, . _ -")
    name = parser.parse_args(arguments).name
    key = secrets.token_urlsafe(KEY_BYTES)
    entry = f"{name}:{hash_key(key)}"
    if not re.fullmatch(KEY, entry):
        parser.error(f"a name has 1 to 64 letters, digits, dots, dashes or underscores, not {name!r}")
    sys.stdout.write(f"key, shown this once: {key}\nadd to RAKUTEN_SERVE_API_KEYS, after a comma: {entry}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
