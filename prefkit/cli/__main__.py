"""``python -m prefkit.cli``, and ``accelerate launch -m prefkit.cli``."""

from prefkit.cli import main

main()
