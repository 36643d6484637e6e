"""One exception family for what users can mend. `assert` is for our own mistakes only."""


class RakutenError(Exception):
    """A user-mendable mistake: one line of what is wrong, then expected, got, and the cure.

    The command line prints `str(error)` without a traceback and exits with `exit_code`.
    """

    exit_code = 1

    def __init__(self, problem: str, *, expected: object = None, got: object = None, fix: str | None = None):
        self.problem, self.expected, self.got, self.fix = problem, expected, got, fix
        rows = [("expected", expected), ("got", got), ("fix", fix)]
        super().__init__("\n".join([problem, *(f"  {k}: {v}" for k, v in rows if v is not None)]))


class ConfigError(RakutenError):
    """The command line or a file under conf/ is wrong. Carries every mistake at once."""

    exit_code = 2


class DataError(RakutenError):
    """A catalogue file or folder is missing, malformed, or not what its config says."""


class WeightsError(RakutenError):
    """Pretrained weights are neither on disk nor to be fetched, or do not fit the model."""


class BundleError(RakutenError):
    """A bundle is torn, tampered with, or of a format this version cannot read."""


class DeviceError(RakutenError):
    """The requested accelerator is not there."""
