"""Names that settings and the command line offer; light enough for ``fti --help``."""

from __future__ import annotations

from typing import Literal

Method = Literal["lora", "rslora", "dora", "qlora", "full"]
Tracker = Literal["tensorboard", "mlflow"]
