"""Teach our face finder what the teacher finds, by dense distillation.

Usage:
    python -m recipes.face_finder.train --data DATA --teacher yunet_n_dynamic.onnx --out finder.onnx

Every place of every map is a target: the teacher's score as a soft label, its box and its five
points where the score is not small. A checkpoint is written every thousand steps; run again with
the same arguments to go on.
"""

from __future__ import annotations

import argparse
import math
import os
import queue
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import torch
from torch.nn import functional

from recipes.face_finder.network import STRIDES, FaceFinder, save_onnx
from recipes.face_finder.scenes import Scenes, read_split


class Teacher:
    """The published network, asked for its raw maps."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(path), options)
        self.names = [output.name for output in self.session.get_outputs()]

    def maps(self, batch: np.ndarray) -> list[np.ndarray]:
        """Score, box and points [N, 15, H/stride, W/stride] for each stride."""
        raw = dict(zip(self.names, self.session.run(None, {"input": batch.astype(np.float32)}), strict=True))
        out = []
        for stride in STRIDES:
            rows, columns = batch.shape[2] // stride, batch.shape[3] // stride
            score = np.sqrt(raw[f"cls_{stride}"] * raw[f"obj_{stride}"])
            every = np.concatenate([score, raw[f"bbox_{stride}"], raw[f"kps_{stride}"]], 2)
            out.append(every.reshape(len(batch), rows, columns, 15).transpose(0, 3, 1, 2))
        return out


def distillation_loss(student: list[torch.Tensor], teacher: list[torch.Tensor]) -> torch.Tensor:
    """Score by cross-entropy, box and points by L1 in strides, both weighted by the teacher's score."""
    total = torch.zeros(())
    positive = sum(float((t[:, 0] > 0.3).sum()) for t in teacher) + 1.0
    for s, t in zip(student, teacher, strict=True):
        score = t[:, 0]
        cross = functional.binary_cross_entropy_with_logits(s[:, 0], score, reduction="none")
        miss = (s[:, 0].sigmoid() - score).abs()
        weight = (score * (score > 0.15)).unsqueeze(1)
        box = (functional.smooth_l1_loss(s[:, 1:5], t[:, 1:5], reduction="none", beta=0.1) * weight).sum()
        points = (functional.smooth_l1_loss(s[:, 5:], t[:, 5:], reduction="none", beta=0.1) * weight).sum()
        total = total + (cross * (0.3 + miss)).sum() * 2.0 + box + 0.3 * points
    return total / positive


def supply(scenes: Scenes, teacher: Teacher, count: int, out: queue.Queue) -> None:
    """Fill the queue with labelled batches, for ever."""
    cv2.setNumThreads(1)
    while True:
        batch = scenes.batch(count)
        out.put((torch.from_numpy(batch.copy()), [torch.from_numpy(m.copy()) for m in teacher.maps(batch)]))


def train(options: argparse.Namespace) -> None:
    """Run the recipe to its end, or on from its last checkpoint."""
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    model = FaceFinder().to(memory_format=torch.channels_last)
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998), use_buffers=True
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=1e-4)
    state, step = options.out.with_suffix(".pt"), 0
    if state.exists():
        saved = torch.load(state, weights_only=True)
        model.load_state_dict(saved["model"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        step = saved["step"]
    faces, others = read_split(options.data, "train")
    batches: queue.Queue = queue.Queue(8)
    for worker in range(options.workers):
        scenes = Scenes(faces, others, side_px=options.side_px, seed=options.seed + 1000 * worker + step)
        arguments = (scenes, Teacher(options.teacher), options.batch, batches)
        threading.Thread(target=supply, args=arguments, daemon=True).start()
    started, losses = time.monotonic(), []
    while step < options.steps:
        progress = step / options.steps
        rate = options.lr * min(1, (step + 1) / 300) * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)
        for group in optimizer.param_groups:
            group["lr"] = rate
        pixels, targets = batches.get()
        maps = model(pixels.float().contiguous(memory_format=torch.channels_last))
        loss = distillation_loss(maps, targets)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        average.update_parameters(model)
        losses.append(loss.item())
        step += 1
        if step % 100 == 0:
            speed = 100 * options.batch / (time.monotonic() - started)
            print(f"step {step} loss {np.mean(losses):.3f} rate {rate:.2e} scenes/s {speed:.0f}", flush=True)
            started, losses = time.monotonic(), []
        if step % 1000 == 0 or step == options.steps:
            _checkpoint(state, model=model, average=average, optimizer=optimizer, step=step)
            save_onnx(average.module, options.out)


def _checkpoint(path: Path, *, step: int, **parts: torch.nn.Module) -> None:
    partial = path.with_suffix(".partial")
    torch.save({"step": step, **{name: part.state_dict() for name, part in parts.items()}}, partial)
    os.replace(partial, path)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--teacher", type=Path, required=True, help="published YuNet, ONNX with a free batch size")
    parser.add_argument("--out", type=Path, required=True, help="the ONNX file to write")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--side-px", type=int, default=256)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
