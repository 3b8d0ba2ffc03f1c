"""Lightning, with the metric, the log and validation after every epoch that people use it for."""

# mypy: disable-error-code="import-not-found,misc"

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable

import lightning
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from .. import fitting
from ..workloads import Workload
from . import threads
from .with_torch import adamw, fitting_module

Batch = tuple[Tensor, Tensor]


class Module(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = fitting_module()

    def training_step(self, batch: Batch, index: int) -> Tensor:
        loss = F.cross_entropy(self.network(batch[0]), batch[1])
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        logits = self.network(batch[0])
        self.log("valid/loss", F.cross_entropy(logits, batch[1]))
        self.log("valid/accuracy", (logits.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return adamw(self, fused=False)


def fit(workload: Workload) -> Callable[[int], float]:
    torch.set_num_threads(threads())
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    train = DataLoader(_rows("train"), workload.batch, shuffle=True)
    valid = DataLoader(_rows("valid"), 256)

    def once(epochs: int) -> float:
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as folder:
            trainer = lightning.Trainer(
                max_epochs=epochs,
                accelerator="cpu",
                default_root_dir=folder,
                enable_progress_bar=False,
                enable_model_summary=False,
                enable_checkpointing=False,
                num_sanity_val_steps=0,
                logger=lightning.pytorch.loggers.CSVLogger(folder),
            )
            trainer.fit(Module(), train, valid)
        return float(trainer.callback_metrics["valid/accuracy"])

    return once


def _rows(split: str) -> TensorDataset:
    found = fitting.rows(split)
    return TensorDataset(torch.tensor(found["x"]), torch.tensor(found["label"]))
