"""The BentoML service: `bentoml serve` from the repository's root."""

from __future__ import annotations

import os
from typing import Any

import bentoml

from rakuten.collector import collecting_rarely
from rakuten.serve.doors import hang_doors
from rakuten.serve.lifecycle import DrainMiddleware, Lifecycle
from rakuten.serve.settings import load_settings

# Before torch is loaded, which reads it then: its threads would wait busily for the next call, on cores that whoever
# reads requests wants.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
SETTINGS = load_settings()
LIFECYCLE = Lifecycle(SETTINGS.drain_s, SETTINGS.graceful_s)


class LazyApp:
    """The application, made in the worker that answers: BentoML's supervisor reads this module too, and needs no torch."""

    app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


APP = LazyApp()


@bentoml.service(
    name="rakuten",
    workers=SETTINGS.workers,
    http={"host": "127.0.0.1", "port": 3000},
    # Ours speaks first, in the shape of the other problems.
    traffic={"timeout": 2 * SETTINGS.limits.answer_s + SETTINGS.limits.receive_s},
)
@bentoml.asgi_app(APP, path="/")
class Rakuten:
    """The champion behind HTTP."""

    @bentoml.on_startup
    async def start(self) -> None:
        with collecting_rarely():
            from rakuten.serve.assembly import Assembly
        from rakuten.serve.security import announce

        LIFECYCLE.install()
        self.assembly = Assembly(SETTINGS, LIFECYCLE)
        await self.assembly.start()
        APP.app = self.assembly.app
        FRONT.open(self.assembly.app, self.assembly.metrics.requests)
        announce(SETTINGS)

    @bentoml.on_shutdown
    async def stop(self) -> None:
        await self.assembly.aclose()

    async def __is_ready__(self) -> bool:
        return self.assembly.is_ready


# What BentoML's decorator makes of the class has it.
Rakuten.add_asgi_middleware(DrainMiddleware, lifecycle=LIFECYCLE)  # type: ignore[attr-defined]
FRONT = hang_doors(Rakuten, SETTINGS)
