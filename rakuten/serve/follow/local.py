"""The champion on this machine: outputs/champion.json or, where there is none, BentoML's store."""

from pathlib import Path

from rakuten.errors import RakutenError
from rakuten.serve.follow.place import Found
from rakuten.serve.publish import read_pointer
from rakuten.serve.store import BUNDLE, newest_stored


class Local:
    """A pointer, and the store behind it."""

    def __init__(self, pointer: Path, registered_model: str):
        self._pointer, self._model = pointer, registered_model
        self._folders: dict[str, Path] = {}  # of what was found last, by its key

    def newest(self) -> Found:
        if self._pointer.is_file():
            published = read_pointer(self._pointer)
            folder, where = Path(published.bundle), str(self._pointer)
            found = Found(published.version, str(published), where)
        else:
            stored = newest_stored(self._model)
            if stored is None:
                raise RakutenError(
                    f"there is no champion at {self._pointer}, and no {self._model} in BentoML's store",
                    fix="promote one: python scripts/promote.py",
                )
            folder, where = stored.path / BUNDLE, f"{stored.tag} of BentoML's store"
            found = Found(stored.version, f"{stored.tag} {stored.key}", where)
        self._folders = {found.key: folder}
        return found

    def bring(self, found: Found) -> Path:
        return self._folders[found.key]

    def remember(self, found: Found) -> None:
        pass

    def last(self) -> None:
        return None
