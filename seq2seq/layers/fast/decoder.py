"""All steps of a known target with a backward of its own; the numbers of single steps, sooner.

What autograd would keep of every step is recomputed or never made: the (B, S, A) of additive energies exists once, the
gradients of all weights are one matrix product over all steps instead of one a step, and the keys' gradient is summed in
place. Forward keeps (T, B, .) states, gates, weights and coverage. The formulas are those of ``cells`` and ``attention``,
differentiated by hand.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from seq2seq.layers.attention import MASKED
from seq2seq.layers.fast.cells import CELLS, Step, tanh_slope


class Kind(NamedTuple):
    """What is no tensor."""

    cell: str
    additive: bool  # energies compare by tanh, else by products
    scale: float  # of these products


class Weights(NamedTuple):
    """Parameters of one decoder layer and its attention. None: there is no such thing."""

    hidden: Tensor  # (G*H, H), h to h
    bias: Tensor  # (G*H,)
    context: Tensor  # (G*H, M)
    query: Tensor | None  # (A, H)
    energy: Tensor | None  # (A,), of additive energies
    coverage: Tensor | None  # (A,) or (1,)
    recurrent_mask: Tensor | None  # (B, H), of recurrent dropout; constant


class Unroll(torch.autograd.Function):
    """(kind, gates (T, B, G*H), hidden (B, W), context (B, M), values, keys, mask, fertility, *weights) -> the ``Trace``.

    Gates come step after step, as they are read; other shapes are those of ``Memory`` and ``Trace``.
    """

    @staticmethod
    def forward(
        ctx: Any,
        kind: Kind,
        gates: Tensor,
        hidden: Tensor,
        context: Tensor,
        values: Tensor,
        keys: Tensor,
        mask: Tensor,
        fertility: Tensor,
        *flat: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        weights = Weights(*flat)  # type: ignore[arg-type]
        (T, B, _), S, H = gates.shape, keys.shape[1], weights.hidden.shape[1]
        step, _, apart, _ = CELLS[kind.cell]
        activations = gates + (0 if apart else weights.bias)
        # what each step sees: the last output, dropped if it is, and the last context
        seen = gates.new_empty(T + 1, B, H + context.shape[1])
        contexts = seen[:, :, H:]
        outputs = seen[:, :, :H] if weights.recurrent_mask is None else gates.new_empty(T + 1, B, H)
        cells = gates.new_empty(T + 1, B, hidden.shape[1] - H)
        outputs[0], cells[0], contexts[0] = hidden[:, :H], hidden[:, H:], context
        h = gates.new_empty(T, B, gates.shape[2] if apart else 0)
        log_weights, coverage = gates.new_empty(T, B, S), gates.new_zeros(T + 1, *fertility.shape)
        room = torch.empty_like(keys) if kind.additive else keys
        both = torch.cat((weights.hidden, weights.context), dim=1).T
        for t in range(T):
            if weights.recurrent_mask is not None:
                torch.mul(outputs[t], weights.recurrent_mask, out=seen[t, :, :H])
            if apart:
                torch.addmm(weights.bias, seen[t, :, :H], weights.hidden.T, out=h[t])
                activations[t].addmm_(contexts[t], weights.context.T)
            else:
                activations[t].addmm_(seen[t], both)
            step(Step(activations[t], h[t], outputs[t], cells[t], outputs[t + 1], cells[t + 1]))
            query = _query(kind, weights, outputs[t + 1])
            if kind.additive:
                assert weights.energy is not None
                energies = (_compare(weights, query, keys, coverage[t], room) @ weights.energy).view(B, S)
            else:
                energies = torch.bmm(keys, query.unsqueeze(2)).squeeze(2)
                if weights.coverage is not None:
                    energies.addcmul_(weights.coverage, coverage[t])
            torch.log_softmax(energies.masked_fill_(~mask, MASKED), dim=1, out=log_weights[t])
            looked = log_weights[t].masked_fill_(~mask, MASKED).exp()
            contexts[t + 1] = torch.bmm(looked.unsqueeze(1), values).squeeze(1)  # slow into a part of rows
            if weights.coverage is not None:
                coverage[t + 1] = coverage[t] + looked / fertility
        ctx.kind, ctx.absent = kind, [weight is None for weight in weights]
        ctx.save_for_backward(
            *(values, keys, mask, fertility, seen, outputs, cells, activations, h, log_weights, coverage),
            *(weight for weight in weights if weight is not None),
        )
        return outputs[1:].transpose(0, 1), contexts[1:].transpose(0, 1), log_weights.transpose(0, 1)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        kind, (*saved,) = ctx.kind, ctx.saved_tensors
        values, keys, mask, fertility, seen, outputs, cells, activations, h, log_weights, coverage = saved[:11]
        present = iter(saved[11:])
        weights = Weights(*(None if absent else next(present) for absent in ctx.absent))  # type: ignore[arg-type]
        d_outputs, d_contexts, d_log_weights = (gradient.transpose(0, 1) for gradient in outer)
        (_, step_back, apart, _), H = CELLS[kind.cell], outputs.shape[2]
        looked, queries = log_weights.exp(), _query(kind, weights, outputs[1:])
        d_gates = torch.empty_like(activations)
        d_hidden_gates = torch.empty_like(activations) if apart else d_gates
        all_d_contexts, d_energies = (
            seen.new_empty(*log_weights.shape[:2], values.shape[2]),
            torch.empty_like(log_weights),
        )
        both = torch.cat((weights.hidden, weights.context), dim=1)
        d_queries = keys.new_empty(*log_weights.shape[:2], keys.shape[2])
        d_keys, d_fertility = torch.zeros_like(keys), torch.zeros_like(fertility)
        d_energy = None if weights.energy is None else torch.zeros_like(weights.energy)
        d_coverage = None if weights.coverage is None else torch.zeros_like(weights.coverage)
        room = torch.empty_like(keys) if kind.additive else keys
        d_output, d_cell, d_context = (torch.zeros_like(steps[0]) for steps in (outputs, cells, all_d_contexts))
        d_covered = torch.zeros_like(fertility)
        for t in reversed(range(len(looked))):
            # the context, the weights it was made with, and what they add to coverage
            torch.add(d_context, d_contexts[t], out=all_d_contexts[t])
            d_looked = torch.bmm(values, all_d_contexts[t].unsqueeze(2)).squeeze(2)
            if weights.coverage is not None:
                d_looked += d_covered / fertility
                d_fertility -= d_covered * looked[t] / fertility.square()
            d_log = torch.addcmul(d_log_weights[t], d_looked, looked[t]).masked_fill_(~mask, 0.0)
            torch.addcmul(d_log, looked[t], d_log.sum(dim=1, keepdim=True), value=-1, out=d_energies[t])
            # the energies
            if kind.additive:
                assert weights.energy is not None
                assert d_energy is not None
                compared = _compare(weights, queries[t], keys, coverage[t], room)
                d_energy.addmv_(compared.T, d_energies[t].flatten())
                slopes = tanh_slope(room, out=room)  # their factor v is left to the end
                d_keys.addcmul_(d_energies[t].unsqueeze(2), slopes)
                if weights.coverage is None:
                    torch.bmm(d_energies[t].unsqueeze(1), slopes, out=d_queries[t].unsqueeze(1))
                    d_queries[t].mul_(weights.energy)
                else:
                    assert d_coverage is not None
                    two = torch.bmm(torch.stack((d_energies[t], d_energies[t] * coverage[t]), dim=1), slopes)
                    torch.mul(two[:, 0], weights.energy, out=d_queries[t])
                    d_coverage += two[:, 1].sum(dim=0)
                    through = slopes @ (weights.energy * weights.coverage)
                    d_covered = d_covered + d_energies[t] * through
            else:
                torch.bmm(d_energies[t].unsqueeze(1), keys, out=d_queries[t].unsqueeze(1))
                if weights.coverage is not None:
                    assert d_coverage is not None
                    d_coverage += (d_energies[t] * coverage[t]).sum()
                    d_covered = d_covered + d_energies[t] * weights.coverage
            # the cell
            d_query = d_queries[t].mul_(kind.scale)
            d_output = d_output + d_outputs[t] + (d_query if weights.query is None else d_query @ weights.query)
            step = Step(activations[t], h[t], outputs[t], cells[t], outputs[t + 1], cells[t + 1])
            d_h, direct, d_cell = step_back(step, d_output, d_cell, d_gates[t])
            if apart:
                d_hidden_gates[t] = d_h
                d_output, d_context = d_h @ weights.hidden, d_gates[t] @ weights.context
            else:
                d_output, d_context = (d_gates[t] @ both).split((H, values.shape[2]), dim=1)
            d_output = d_output if weights.recurrent_mask is None else d_output * weights.recurrent_mask
            d_output = d_output if direct is None else d_output + direct
        # what all steps share: one product each
        if kind.additive:
            assert weights.energy is not None
            d_keys.mul_(weights.energy)
            if d_coverage is not None:
                d_coverage.mul_(weights.energy)
        else:
            d_keys = torch.bmm(d_energies.permute(1, 2, 0), queries.transpose(0, 1))
        d_values = torch.bmm(looked.permute(1, 2, 0), all_d_contexts.transpose(0, 1))
        flat_gates, flat_hidden_gates = d_gates.flatten(0, 1), d_hidden_gates.flatten(0, 1)
        last_outputs, last_contexts = seen[:-1].flatten(0, 1).split((H, values.shape[2]), dim=1)
        return (
            None,
            d_gates,
            torch.cat((d_output, d_cell), dim=1),
            d_context,
            d_values,
            d_keys,
            None,
            d_fertility,
            flat_hidden_gates.T @ last_outputs,
            flat_hidden_gates.sum(dim=0),
            flat_gates.T @ last_contexts,
            None if weights.query is None else d_queries.flatten(0, 1).T @ outputs[1:].flatten(0, 1),
            d_energy,
            d_coverage,
            None,
        )


def _query(kind: Kind, weights: Weights, output: Tensor) -> Tensor:
    """(..., H) -> (..., A), as far as keys are to be multiplied by it."""
    query = output if weights.query is None else output @ weights.query.T
    return query if kind.scale == 1 else query * kind.scale


def _compare(weights: Weights, query: Tensor, keys: Tensor, coverage: Tensor, room: Tensor) -> Tensor:
    """tanh(W s_t + U h_j + w_c c_j), written to ``room`` (B, S, A) and seen as (B*S, A)."""
    torch.add(keys, query.unsqueeze(1), out=room)
    if weights.coverage is not None:
        room.addcmul_(coverage.unsqueeze(2), weights.coverage)
    return room.tanh_().flatten(0, 1)
