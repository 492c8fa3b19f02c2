"""What the commands do. Every function returns its result as data; showing it is `s0_cli.show`'s business."""

import logging
import os
import warnings

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # its notices about missing CUDA kernels help nobody here

from transformers.utils.logging import disable_progress_bar

from s0.cautions import Caution

disable_progress_bar()  # type: ignore[no-untyped-call]  # of weight loading: the stages show their own
logging.getLogger("matplotlib").setLevel(logging.ERROR)  # where it keeps its caches concerns nobody here
warnings.filterwarnings("ignore", category=Caution)  # they stand in the result
