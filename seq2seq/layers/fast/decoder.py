"""Fast twin of the teacher-forced unroll of a recurrent decoder.

It gives the same results as stepping, faster and with less memory. Forward saves the states, the gates, the log-weights and
the coverage of each step. The (B, S, A) tensor of additive energies is computed in one buffer, and again in backward. The
gradient of each weight is one matrix product over all steps. The gradient of the keys is accumulated in place.

Notation: y_t is the embedding of the input token, o_t the output of the last layer, ctx_t the context, value_i and k_i the
value and the key of source position i, cov_t the coverage of the steps before t (cov_1 = 0), and f_i the fertility. Step t
computes::

    o_t = layers(y_t, ctx_{t-1}), by the formulas of ``layers.fast.stack``
    q_t = scale * Q o_t                                                               (dot, general: Q = identity)
    e_ti = v . tanh(q_t + k_i + w cov_ti)     or     q_t . k_i + w cov_ti
    a_t = softmax(e_t)       ctx_t = sum_i a_ti value_i       cov_{t+1,i} = cov_ti + a_ti / f_i

Backward goes from the last step to the first. dX is the gradient of the loss with respect to X; outer(X) is the part of dX
that comes from outside of the unroll. At the last step, the terms of step t+1 are 0::

    dctx_t  = outer(ctx_t) + (path of ctx_t through the layers of step t+1)
    da_ti   = value_i . dctx_t + dcov_{t+1,i} / f_i
    dlog_ti = outer(log a_ti) + a_ti da_ti              de_ti = dlog_ti - a_ti sum_j dlog_tj
    additive, with s_ti = 1 - tanh^2 of the argument:   dq_t = v * sum_i de_ti s_ti
              dcov_ti = dcov_{t+1,i} + de_ti (s_ti . (v * w))
    product:  dq_t = sum_i de_ti k_i                    dcov_ti = dcov_{t+1,i} + w de_ti
    do_t    = outer(o_t) + scale * Q^T dq_t
    the path of ctx_{t-1}, and the gradients of the layers, from do_t by ``layers.fast.stack``

The other gradients are sums over the steps::

    dQ = scale sum_t dq_t o_t^T           dvalue_i = sum_t a_ti dctx_t          df_i = - sum_t dcov_{t+1,i} a_ti / f_i^2
    additive: dk_i = v * sum_t de_ti s_ti       dv = sum_ti de_ti tanh(...)_ti       dw = v * sum_ti de_ti cov_ti s_ti
    product:  dk_i = sum_t de_ti q_t            dw = sum_ti de_ti cov_ti

The code computes tanh(x) as 2 r - 1 with r = sigmoid(2x), since torch's sigmoid is several times as fast as its tanh on a
CPU. Then v . tanh = 2v . r minus the sum of v, which the softmax cancels; 1 - tanh^2 =
4 (r - r^2), whose factor 4 is applied together with v; and dv = 2 sum_ti de_ti r_ti - sum_ti de_ti.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seq2seq.layers.attention import MASKED
from seq2seq.layers.fast.cells import FastCell
from seq2seq.layers.fast.stack import LayerTensors, LayerWeights, StackBackward, StackForward


class UnrollOptions(NamedTuple):
    """Non-tensor options of the unroll."""

    cell: FastCell
    residual: bool  # add the input of a layer, except the first, to its output
    additive: bool  # additive energies; False: dot products
    scale: float  # factor of the query


class AttentionWeights(NamedTuple):
    """Parameters of the attention; None if there is no such parameter."""

    query: Tensor | None  # (A, H), Q
    energy: Tensor | None  # (A,), v of additive energies
    coverage: Tensor | None  # (A,) or (1,), w


class FastAttention(NamedTuple):
    """The parameters of an attention that the unroll reads."""

    query: Tensor | None = None  # (A, H), Q; None: the query is the output of the decoder
    energy: Tensor | None = None  # (A,), v of additive energies; None: energies are dot products
    scale: float = 1.0


FAST_ATTENTIONS: dict[str, Callable[[Any], FastAttention]] = {  # maps an attention of this kind to its parameters
    "additive": lambda attention: FastAttention(attention.query.weight, attention.energy.weight[0]),
    "dot": lambda attention: FastAttention(),
    "general": lambda attention: FastAttention(),
    "scaled_dot": lambda attention: FastAttention(attention.query.weight, scale=attention.scale),
}


class _Saved(NamedTuple):
    """Tensors saved for backward, except those of the layers. The coverage after step t has index t+1."""

    values: Tensor  # (B, S, M)
    keys: Tensor  # (B, S, A)
    mask: Tensor  # (B, S)
    fertility: Tensor  # (B, S), or (B, 0) without coverage
    outputs: Tensor  # (T, B, H), of the last layer
    log_weights: Tensor  # (T, B, S)
    coverage: Tensor  # (T+1, B, S), or (T+1, B, 0)


class FastUnroll(torch.autograd.Function):
    """Runs the teacher-forced unroll of L layers.

    (options, gates (T, B, G*H), hidden (B, L, W), context (B, M), values, keys, mask, fertility, *AttentionWeights, and the
    LayerWeights of each layer, flat) -> the fields of ``Unrolled``. ``gates`` are W_e y_t + b_e, step first, and are not
    changed. The other shapes are those of ``Memory``.
    """

    @staticmethod
    def forward(
        ctx: Any,
        options: UnrollOptions,
        gates: Tensor,
        hidden: Tensor,
        context: Tensor,
        values: Tensor,
        keys: Tensor,
        mask: Tensor,
        fertility: Tensor,
        *flat: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        weights, layers = _unflatten(flat)
        T, B, S = *gates.shape[:2], keys.shape[1]
        stack = StackForward(options.cell, options.residual, layers, gates=gates, hidden=hidden, context=context)
        log_weights, coverage = gates.new_empty(T, B, S), gates.new_zeros(T + 1, *fertility.shape)
        buffer = torch.empty_like(keys) if options.additive else keys
        padding, query_product = ~mask, _query_product(options, weights)
        doubled = None if weights.energy is None else 2 * weights.energy
        for t in range(T):
            query = _query(query_product, stack.step(t))
            energies = _energies(doubled, weights, query, keys, coverage[t], buffer)
            torch.log_softmax(energies.masked_fill_(padding, MASKED), dim=1, out=log_weights[t])
            attended = log_weights[t].masked_fill_(padding, MASKED).exp()
            stack.contexts[t + 1] = torch.bmm(attended.unsqueeze(1), values).squeeze(
                1
            )  # bmm with out= is slow for this slice
            if weights.coverage is not None:
                torch.addcdiv(coverage[t], attended, fertility, out=coverage[t + 1])
        ctx.options, ctx.num_layers = options, len(layers)
        saved = _Saved(values, keys, mask, fertility, stack.outputs, log_weights, coverage)
        ctx.save_for_backward(*saved, *chain.from_iterable(stack.layers), *flat)
        return tuple(steps.transpose(0, 1) for steps in (stack.outputs, stack.contexts[1:], log_weights))  # type: ignore[return-value]

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        tensors, count = ctx.saved_tensors, len(_Saved._fields)
        end = count + ctx.num_layers * len(LayerTensors._fields)
        saved = _Saved(*tensors[:count])
        layers = [LayerTensors(*part) for part in _parts(tensors[count:end], len(LayerTensors._fields))]
        weights, layer_weights = _unflatten(tensors[end:])
        stack = StackBackward(ctx.options.cell, ctx.options.residual, layer_weights, layers)
        d_outputs, d_contexts, d_log_weights = (gradient.transpose(0, 1) for gradient in outer)
        unroll = _Backward(ctx.options, weights, saved)
        d_log_weights = d_log_weights.masked_fill(~saved.mask, 0.0)
        for t in reversed(range(len(d_outputs))):
            unroll.weights_backward(t, d_contexts[t], d_log_weights[t])
            unroll.energies_backward(t)
            unroll.d_context = stack.step(t, unroll.output_backward(t, d_outputs[t]))
        d_memory, d_attention = unroll.gradients()
        d_start = (stack.d_gates[0], stack.d_hidden(), unroll.d_context)
        return (None, *d_start, *d_memory, *d_attention, *chain.from_iterable(stack.d_weights()))


class _Backward:
    """The backward pass of the attention: its buffers and steps. ``d_x`` is the gradient of the loss with respect to x."""

    def __init__(self, options: UnrollOptions, weights: AttentionWeights, saved: _Saved) -> None:
        self.options, self.weights, self.saved = options, weights, saved
        steps, batch, _ = saved.log_weights.shape
        self.attended = saved.log_weights.exp()
        self.queries = _query(_query_product(options, weights), saved.outputs)
        self.d_contexts = saved.values.new_empty(steps, batch, saved.values.shape[2])
        self.d_energies = torch.empty_like(saved.log_weights)
        self.query_products = saved.keys.new_empty(steps, batch, saved.keys.shape[2])  # the sums in dq_t, without v
        self.d_keys, self.d_fertility = torch.zeros_like(saved.keys), torch.zeros_like(saved.fertility)
        self.d_energy = None if weights.energy is None else torch.zeros_like(weights.energy)
        self.d_coverage_weight = None if weights.coverage is None else torch.zeros_like(weights.coverage)
        self.buffer = torch.empty_like(saved.keys) if options.additive else saved.keys
        # products of weights that every step uses
        factor = saved.keys.new_ones(1) if weights.energy is None else 4 * weights.energy
        self.factor = factor  # (A,) or (1,), of the sums over s_ti
        self.query_factor = (factor * options.scale).unsqueeze(1)  # (A, 1) or (1, 1)
        self.d_output_product = None if weights.query is None else self.query_factor * weights.query
        self.d_coverage_product = None if weights.coverage is None else factor * weights.coverage
        # gradients that step t+1 passes to step t
        self.d_context, self.d_coverage = torch.zeros_like(self.d_contexts[0]), torch.zeros_like(saved.fertility)

    def weights_backward(self, t: int, d_context: Tensor, d_log_weights: Tensor) -> None:
        """Compute the gradient of the energies from those of the context and of the coverage after step t."""
        saved, attended = self.saved, self.attended[t]
        torch.add(self.d_context, d_context, out=self.d_contexts[t])
        d_attended = torch.bmm(saved.values, self.d_contexts[t].unsqueeze(2)).squeeze(2)
        if self.weights.coverage is not None:
            d_attended.addcdiv_(self.d_coverage, saved.fertility)
            self.d_fertility.addcmul_(self.d_coverage, attended, value=-1)  # divided by f^2 at the end
        d_log = torch.addcmul(d_log_weights, d_attended, attended)  # 0 at padding
        torch.addcmul(d_log, attended, d_log.sum(dim=1, keepdim=True), value=-1, out=self.d_energies[t])

    def energies_backward(self, t: int) -> None:
        """Compute the gradients of query and coverage from that of the energies; additive: also of keys and parameters."""
        d_energies = self.d_energies[t]
        if self.options.additive:
            self._additive_backward(t)
            return
        torch.bmm(d_energies.unsqueeze(1), self.saved.keys, out=self.query_products[t].unsqueeze(1))
        if self.d_coverage_product is not None:
            self.d_coverage = torch.addcmul(self.d_coverage, d_energies, self.d_coverage_product)

    def _additive_backward(self, t: int) -> None:
        d_energies, coverage = self.d_energies[t], self.saved.coverage[t]
        assert self.d_energy is not None
        compared = _compare(self.weights, self.queries[t], self.saved.keys, coverage, self.buffer)
        self.d_energy.addmv_(compared.T, d_energies.flatten(), alpha=2)
        slopes = torch.addcmul(self.buffer, self.buffer, self.buffer, value=-1, out=self.buffer)  # s_ti / 4
        self.d_keys.addcmul_(d_energies.unsqueeze(2), slopes)  # multiplied by 4v at the end
        if self.d_coverage_weight is None or self.d_coverage_product is None:
            torch.bmm(d_energies.unsqueeze(1), slopes, out=self.query_products[t].unsqueeze(1))
            return
        two = torch.bmm(torch.stack((d_energies, d_energies * coverage), dim=1), slopes)
        self.query_products[t] = two[:, 0]
        self.d_coverage_weight += two[:, 1].sum(dim=0)  # multiplied by 4v at the end
        self.d_coverage = torch.addcmul(self.d_coverage, d_energies, slopes @ self.d_coverage_product)

    def output_backward(self, t: int, d_output: Tensor) -> Tensor:
        """Compute the gradient of the output of the last layer (B, H) from ``d_output``, its part from outside, and the query."""
        if self.d_output_product is None:
            return torch.add(d_output, self.query_products[t], alpha=self.options.scale)
        return torch.addmm(d_output, self.query_products[t], self.d_output_product)

    def gradients(self) -> tuple[tuple[Tensor | None, ...], AttentionWeights]:
        """Compute the sums over all steps; return the gradients of values, keys, mask and fertility, and of the weights."""
        weights, saved, d_keys, d_query = self.weights, self.saved, self.d_keys, None
        if self.d_energy is not None:
            self.d_energy -= self.d_energies.sum()
            d_keys.mul_(self.factor)
            if self.d_coverage_weight is not None:
                self.d_coverage_weight.mul_(self.factor)
        else:
            d_keys = torch.bmm(self.d_energies.permute(1, 2, 0), self.queries.transpose(0, 1))
            if self.d_coverage_weight is not None:
                self.d_coverage_weight += (self.d_energies * saved.coverage[:-1]).sum()
        d_values = torch.bmm(self.attended.permute(1, 2, 0), self.d_contexts.transpose(0, 1))
        if weights.query is not None:
            d_query = self.query_products.flatten(0, 1).T @ saved.outputs.flatten(0, 1) * self.query_factor
        d_weights = AttentionWeights(d_query, self.d_energy, self.d_coverage_weight)
        return (d_values, d_keys, None, self.d_fertility.div_(saved.fertility.square())), d_weights


def _unflatten(flat: Sequence[Tensor | None]) -> tuple[AttentionWeights, list[LayerWeights]]:
    """Return the weights of the attention and of the layers from the arguments of ``FastUnroll``."""
    count = len(AttentionWeights._fields)
    layers = [LayerWeights(*part) for part in _parts(flat[count:], len(LayerWeights._fields))]
    return AttentionWeights(*flat[:count]), layers


def _parts(flat: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Cut a sequence into parts of the same size."""
    return (flat[start : start + size] for start in range(0, len(flat), size))


def _query_product(options: UnrollOptions, weights: AttentionWeights) -> Tensor | None:
    """Return scale * Q^T (H, A), additive: 2 * scale * Q^T; None if the query is the output itself."""
    return None if weights.query is None else (weights.query * (options.scale * (1 + options.additive))).T


def _query(product: Tensor | None, output: Tensor) -> Tensor:
    """Project outputs to queries, doubled if the attention is additive: (..., H) -> (..., A)."""
    return output if product is None else output @ product


def _energies(
    doubled: Tensor | None, weights: AttentionWeights, query: Tensor, keys: Tensor, coverage: Tensor, buffer: Tensor
) -> Tensor:
    """Compute the energies of one query per sentence: (B, A), (B, S, A), (B, S) -> (B, S).

    Additive: ``doubled`` is 2v, the query is doubled, and the result is the energies plus the sum of v.
    """
    if doubled is not None:
        return (_compare(weights, query, keys, coverage, buffer) @ doubled).view(keys.shape[:2])
    energies = torch.bmm(keys, query.unsqueeze(2)).squeeze(2)
    return energies if weights.coverage is None else energies.addcmul_(weights.coverage, coverage)


def _compare(weights: AttentionWeights, query: Tensor, keys: Tensor, coverage: Tensor, buffer: Tensor) -> Tensor:
    """Compute sigmoid(2(q_t + k_i + w cov_ti)) from 2 q_t in ``buffer`` (B, S, A); return a (B*S, A) view of it."""
    torch.add(query.unsqueeze(1), keys, alpha=2, out=buffer)
    if weights.coverage is not None:
        buffer.addcmul_(coverage.unsqueeze(2), weights.coverage, value=2)
    return buffer.sigmoid_().flatten(0, 1)
