"""Train toys, alone or as one of several processes: two_processes.py PICTURES OUT BATCH_SIZE."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import safetensors.torch
import torch
from toy import STAGES, learn, toy_crops

if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, out, size = sys.argv[1:]
    for name, freeze in STAGES.items():
        toy = toy_crops(Path(folder), write=False)
        model = learn(toy, Path(out, name), batch_size=int(size), freeze=freeze, dropout=0.0)
        weights = {key: value.contiguous() for key, value in model.state_dict().items()}
        safetensors.torch.save_file(weights, f"{out}/{name}-{os.environ.get('RANK', '0')}.safetensors")
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
