"""The `s0` command: `main` is the console script."""

import logging

import s0_cli.app
from s0_cli.streams import complete_streams

__all__ = ["main"]


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a message of bitsandbytes' is more than what it says at every start without `kernels`, which is optional.

    PEFT imports it wherever it is installed; on processors with AVX512-BF16 (0.50).
    """
    return not record.getMessage().startswith("Failed to load CPU gemm_4bit_forward")


def main() -> None:
    """Run the command line."""
    logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_is_news)
    complete_streams()
    s0_cli.app.app()
