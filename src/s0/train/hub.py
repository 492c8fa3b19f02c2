"""What was tuned, on the Hugging Face Hub."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable

from huggingface_hub import HfApi

from s0.adapter.card import CARD_FILE


def upload(write: Callable[[str], None], repo_id: str, *, private: bool | None, token: str | None) -> str:
    """Upload a folder; a card somebody has written in the repository stays.

    Args:
        write: fills the folder it is called with, where that card lies already.
        repo_id: the repository; made if need be.
        private: whether a new repository is; None as the account's settings say.
        token: of the Hub; None for the one that was logged in with.

    Returns:
        the address of the upload.

    Raises:
        HfHubHTTPError, OSError: huggingface_hub's own, where the Hub refuses or cannot be reached.
    """
    hub = HfApi(token=token)
    name = hub.create_repo(repo_id, private=private, exist_ok=True).repo_id
    with tempfile.TemporaryDirectory() as folder:
        if hub.file_exists(name, CARD_FILE):
            shutil.copy(hub.hf_hub_download(name, CARD_FILE), folder)
        write(folder)
        return str(hub.upload_folder(repo_id=name, folder_path=folder, commit_message="Upload state"))
