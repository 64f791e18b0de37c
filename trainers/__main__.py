"""``python -m trainers config.yaml --option value …``, also under ``accelerate launch -m trainers``."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefkit.backbones.catalogue import load_backbone
from prefkit.cards import model_card
from prefkit.errors import PrefkitError
from prefkit.workspace import atomic_write
from trainers.arguments import parse_run
from trainers.train import train_dpo


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Trains what the arguments describe, writes the adapter's card, and returns the run's record."""
    what, config = parse_run(arguments)
    record = train_dpo(
        what.dataset,
        str(config.output_dir),
        load_backbone(what.backbone, what.checkpoint, config.device),
        config,
        cache_folder=what.cache_folder,
        resume=not what.start_over,
    )
    if config.process_index == 0:
        with atomic_write(Path(str(config.output_dir)) / "adapter" / "README.md") as temporary:
            temporary.write_text(model_card(record))
    return record


def main() -> None:
    """A user's mistake is one sentence and exit code 2."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    try:
        record = run(sys.argv[1:])
    except PrefkitError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"Adapter {record['adapter_hash']}")


if __name__ == "__main__":
    main()
