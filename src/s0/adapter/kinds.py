"""What else than states lies in adapter folders, by the `peft_type` of their config."""

FULL = "FULL"
"""Where adapters have PEFT's name of their method: the folder holds all weights of a model (see `s0.train.full`)."""


def advice_on(kind: object) -> str:
    """What to do with a folder of this kind where a state is expected."""
    if kind == FULL:
        return (
            "it holds all weights of a model: put them on it (s0.train.load_tuned) and save it, "
            "model.save_pretrained(path), as a model of its own"
        )
    return "load other adapters with peft"
