"""The BentoML service: `bentoml serve` from the repository's root."""

from __future__ import annotations

from typing import Any

import bentoml

from rakuten.serve.settings import load_settings

SETTINGS = load_settings()


class LazyApp:
    """The application, made in the worker that answers: BentoML's supervisor reads this module too, and needs no torch."""

    app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


APP = LazyApp()


@bentoml.service(name="rakuten", http={"host": "127.0.0.1", "port": 3000}, traffic={"timeout": 60})
@bentoml.asgi_app(APP, path="/")
class Rakuten:
    """The champion behind HTTP."""

    @bentoml.on_startup
    async def start(self) -> None:
        from rakuten.serve.app import create_app
        from rakuten.serve.champion import Champion
        from rakuten.serve.engine import Engine

        champion = Champion(SETTINGS)
        champion.load()
        self.champion = champion
        self.engine = Engine(SETTINGS, champion)
        APP.app = create_app(self.engine)

    @bentoml.on_shutdown
    async def stop(self) -> None:
        await self.engine.aclose()

    async def __is_ready__(self) -> bool:
        return self.champion.current is not None
