"""The BitNet b1.58 network and its optimiser, in PyTorch.

Linear layers train full-precision weights but always compute with ternary ones (absmean) and with 8-bit activations
(absmax per token); gradients pass straight through both roundings.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Shape:
    """Dimensions of the network. embedding, feed_forward and heads * head_dim must be multiples of 128."""

    vocabulary: int
    embedding: int
    feed_forward: int
    blocks: int
    heads: int
    kv_heads: int
    context: int = 1024
    rope_base: float = 10_000.0
    norm_epsilon: float = 1e-5

    @property
    def head_dim(self) -> int:
        return self.embedding // self.heads


def ternarise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(codes in {-1, 0, 1}, scale) by the absmean rule."""
    scale = weight.abs().mean().clamp(min=1e-5)
    return (weight / scale).round().clamp(-1, 1), scale


def quantise(x: Tensor) -> Tensor:
    """8-bit activations per token, returned as floats; the gradient is that of the identity."""
    scale = 127.0 / x.detach().abs().amax(dim=-1, keepdim=True).clamp(min=1e-5)
    return x + ((x * scale).round().clamp(-128, 127) / scale - x).detach()


class TernaryLinear(nn.Module):
    """y = quantised(x) . ternary(W)^T * scale. The caller quantises x, because several layers share it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * inputs**-0.5)

    def forward(self, quantised: Tensor) -> Tensor:
        codes, scale = ternarise(self.weight.detach())
        return F.linear(quantised, self.weight + (codes * scale - self.weight).detach())


class Norm(nn.Module):
    """RMS norm."""

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + self.epsilon) * self.weight


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary embedding of the half-split (NEOX) kind on [batch, heads, positions, head_dim]."""
    low, high = x.chunk(2, dim=-1)
    return torch.cat((low * cosine - high * sine, high * cosine + low * sine), dim=-1)


class Block(nn.Module):
    """One transformer block; attribute names are those of the GGUF tensors."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, kv_width, epsilon = shape.embedding, shape.kv_heads * shape.head_dim, shape.norm_epsilon
        self.shape = shape
        self.attn_norm = Norm(width, epsilon)
        self.attn_q = TernaryLinear(width, width)
        self.attn_k = TernaryLinear(width, kv_width)
        self.attn_v = TernaryLinear(width, kv_width)
        self.attn_sub_norm = Norm(width, epsilon)
        self.attn_output = TernaryLinear(width, width)
        self.ffn_norm = Norm(width, epsilon)
        self.ffn_gate = TernaryLinear(width, shape.feed_forward)
        self.ffn_up = TernaryLinear(width, shape.feed_forward)
        self.ffn_sub_norm = Norm(shape.feed_forward, epsilon)
        self.ffn_down = TernaryLinear(shape.feed_forward, width)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        batch, positions, width = x.shape
        head_dim, group = self.shape.head_dim, self.shape.heads // self.shape.kv_heads
        h = quantise(self.attn_norm(x))
        q, k, v = (layer(h).view(batch, positions, -1, head_dim).transpose(1, 2)
                   for layer in (self.attn_q, self.attn_k, self.attn_v))
        q, k = rotate(q, cosine, sine), rotate(k, cosine, sine)
        k, v = (t.repeat_interleave(group, dim=1) for t in (k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        mixed = mixed.transpose(1, 2).reshape(batch, positions, width)
        x = x + self.attn_output(quantise(self.attn_sub_norm(mixed)))
        h = quantise(self.ffn_norm(x))
        gated = F.relu(self.ffn_gate(h)).square() * self.ffn_up(h)
        return x + self.ffn_down(quantise(self.ffn_sub_norm(gated)))


class Network(nn.Module):
    """Token ids [batch, positions] to logits [batch, positions, vocabulary]; output tied to the embedding."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Parameter(torch.randn(shape.vocabulary, shape.embedding) * 0.02)
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.blocks))
        self.output_norm = Norm(shape.embedding, shape.norm_epsilon)
        frequencies = shape.rope_base ** (-torch.arange(0, shape.head_dim, 2) / shape.head_dim)
        angles = torch.outer(torch.arange(shape.context), frequencies)
        self.register_buffer("cosine", angles.cos(), persistent=False)
        self.register_buffer("sine", angles.sin(), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        positions = tokens.shape[1]
        x = F.embedding(tokens, self.token_embd)
        for block in self.blk:
            x = block(x, self.cosine[:positions], self.sine[:positions])
        return F.linear(self.output_norm(x), self.token_embd)

    def loss(self, tokens: Tensor) -> Tensor:
        """Mean cross-entropy (nats) of tokens[:, 1:] given what precedes them."""
        return F.cross_entropy(self(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())

    def ternary_parameters(self) -> int:
        return sum(m.weight.numel() for m in self.modules() if isinstance(m, TernaryLinear))


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised by a Newton-Schulz iteration (Jordan et al. 2024). For matrices only."""

    def __init__(self, parameters: list[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                buffer = state.setdefault("momentum", torch.zeros_like(parameter))
                buffer.lerp_(parameter.grad, 1 - group["momentum"])
                update = orthogonalise(parameter.grad.lerp(buffer, group["momentum"]))
                parameter.add_(update, alpha=-group["lr"] * max(1.0, parameter.shape[0] / parameter.shape[1]) ** 0.5)


def orthogonalise(matrix: Tensor, iterations: int = 5) -> Tensor:
    """Pushes all singular values towards one with the quintic Newton-Schulz iteration."""
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x
