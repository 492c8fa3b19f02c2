"""One model with many tuned initial states behind the OpenAI API: each request starts from its own, exactly."""

try:
    import fastapi  # noqa: F401
    import prometheus_client  # noqa: F401
    import uvicorn  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError(f"s0-tuning needs {error.name} to serve; from the checkout: pip install '.[serve]'") from error
