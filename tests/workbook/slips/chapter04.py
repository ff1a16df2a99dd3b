"""Chapter 4: answers that readers are likely to give, and the hint that each gets."""

import math

import torch


def loop(model, batches, clear=True, late=False, step=True):
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=1e-2), []
    for x, y in batches:
        loss = (model(x) - y).square().mean()
        if clear and not late:
            optimizer.zero_grad()
        if late:
            optimizer.step()
            optimizer.zero_grad()
        loss.backward()
        if step and not late:
            optimizer.step()
        losses.append(loss.item())
    return losses


def pad(clips, front=False, invert=False, mask_shape=None):
    longest = max(c.shape[1] for c in clips)
    batch = torch.zeros(len(clips), 2, longest, 3, 4)
    mask = torch.zeros(len(clips), longest, dtype=torch.bool)
    for row, c in enumerate(clips):
        n = c.shape[1]
        batch[row, :, slice(-n, None) if front else slice(n)] = c
        mask[row, :n] = True
    return batch, ~mask if invert else mask


def straight_in_place(x, velocity, s):
    x -= s * velocity
    return x


def late_and_never_cleared(model, batches):  # the loop as the exercise gives it
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=1e-2), []
    for x, y in batches:
        loss = (model(x) - y).square().mean()
        optimizer.step()
        loss.backward()
        losses.append(loss.item())
    return losses


RIGHT = [
    ("4.2", "0.1"),
    ("4.4", straight_in_place),
    ("4.5", lambda n: [1 - math.sin(math.pi / 2 * i / n) + 1e-17 for i in range(n + 1)]),
    ("4.6", lambda clips: list(pad(clips))),
    ("4.6", lambda clips: tuple(part.numpy() for part in pad(clips))),
    ("4.8", lambda size, n: 2 * (n - 1) * size // n),
]
SLIPS = [
    ("4.3", late_and_never_cleared, "nothing clears the gradients"),
    ("4.3", lambda m, b: loop(m, b)[-1], "one loss for each batch"),
    ("4.6", lambda clips: (pad(clips)[0].where(pad(clips)[0] != 0, 1), pad(clips)[1]), "zeros"),
    ("4.1", "captions", "something else than was asked for"),
    ("4.1", "slow_ema", "lag far behind"),
    ("4.1", "the model", "none of the eight words"),
    ("4.2", 1e-3, "do not get there"),
    ("4.2", 40.0, "steps over the goal"),
    ("4.2", -1, "above zero"),
    ("4.3", lambda m, b: loop(m, b, clear=False), "gradients of the batch before"),
    ("4.3", lambda m, b: loop(m, b, step=False), "have not moved"),
    ("4.3", lambda m, b: loop(m, b, late=True), "one step late"),
    ("4.3", lambda m, b: loop(m, b)[:1], "one loss for each batch"),
    ("4.4", lambda x, v, s: x + (1 - s) * v, "that is the noise"),
    ("4.4", lambda x, v, s: x - v, "a whole step"),
    ("4.4", lambda x, v, s: x, "solve"),
    ("4.5", lambda n: [1 - i / n for i in range(n + 1)], "where the path bends"),
    ("4.5", lambda n: [1 - i / n for i in range(n)], "levels, not"),
    ("4.5", lambda n: [i / n for i in range(n + 1)], "begin at 1"),
    ("4.5", lambda n: [1.0] * n + [0.0], "must fall"),
    ("4.6", lambda clips: pad(clips, front=True), "frames first"),
    ("4.6", lambda clips: pad(clips, invert=True), "inside out"),
    ("4.6", lambda clips: pad(clips)[0], "two tensors"),
    ("4.6", lambda clips: (pad(clips)[0][:, :, :4], pad(clips)[1]), "should be"),
    ("4.7", lambda d, s: (1 + s) ** d, "amplitudes"),
    ("4.7", lambda d, s: 1 + d * s * s, "block by block"),
    ("4.7", lambda d, s: 0.0, "should be"),
    ("4.8", lambda size, n: (n - 1) * size / n, "first half"),
    ("4.8", lambda size, n: 2 * (n - 1) * size, "one piece"),
    ("4.8", lambda size, n: 2 * size, "nearly"),
    ("4.8", lambda size, n: 1, "count rounds"),
]
