"""Train a toy, alone or as one of several processes: two_processes.py PICTURES OUT BATCH_SIZE."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch
from toy import CARD, SCHEDULE, toy_crops

from deepfake_detect.models import create_model
from deepfake_detect.train import fit

if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, out, size = sys.argv[1:]
    toy, model = toy_crops(Path(folder), write=False), create_model("cnn-simple", seed=0)
    schedule = replace(SCHEDULE, batch_size=int(size))
    fit(model, toy, card=CARD, schedule=schedule, out=out, valid=toy, device="cpu")
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    safetensors.torch.save_file(weights, f"{out}-{os.environ.get('RANK', '0')}.safetensors")
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
