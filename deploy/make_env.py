"""`make env`: a .env for development from .env.example, with random passwords. Needs nothing but Python.

A .env that is there keeps all that it says: what is empty and needs a value gets one, what it does not name is added.

    python3 deploy/make_env.py [FOLDER]
"""

import re
import secrets
import sys
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[1] / ".env.example"
SECRET = ("POSTGRES_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "GRAFANA_PASSWORD")
NAME = re.compile(r"^\s*(?:export\s+)?(\w+)\s*=", re.MULTILINE)


def blocks(text: str) -> dict[str, str]:
    """Each variable of the example, with the comment above it."""
    return {found[1]: block for block in text.split("\n\n") if (found := NAME.search(block))}


def completed(text: str, example: str) -> str:
    """`text` with a value for each secret that is empty, and with what the example names and it does not."""
    for name, block in blocks(example).items():
        if name not in NAME.findall(text):
            text += "\n" * bool(text) + block.strip() + "\n"
    for name in (
        SECRET
    ):  # letters and digits: nothing that a shell, a URL or another reader of .env would take otherwise
        text = re.sub(rf"^{name}=$", f"{name}={secrets.token_hex(16)}", text, flags=re.MULTILINE)
    return text


def main(folder: Path) -> None:
    path = folder / ".env"
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    after = completed(before, EXAMPLE.read_text(encoding="utf-8"))
    if after == before:
        sys.stderr.write(f"{path} has everything\n")
        return
    new = path.with_name(".env.new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)  # never readable by others, not even for a moment
    new.write_text(after, encoding="utf-8")
    new.replace(path)
    sys.stderr.write(f"{path} {'completed' if before else 'made'}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
