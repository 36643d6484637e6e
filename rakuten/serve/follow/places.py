"""Which place the settings name."""

from pathlib import Path

from rakuten.serve.follow.place import Place
from rakuten.serve.settings import ServeSettings


def place_of(settings: ServeSettings) -> Place:
    """MLflow where `champion` is an address, else a pointer on this machine and BentoML's store behind it."""
    if settings.champion.startswith(("http://", "https://")):
        from rakuten.serve.follow.registry import Registry

        return Registry(
            settings.champion, settings.registered_model, settings.served_dir, settings.max_bundle_bytes
        )
    from rakuten.serve.follow.local import Local

    return Local(Path(settings.champion), settings.registered_model)
