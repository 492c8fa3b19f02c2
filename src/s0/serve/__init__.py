"""One model with many tuned initial states behind the OpenAI API: each request starts from its own, exactly."""
