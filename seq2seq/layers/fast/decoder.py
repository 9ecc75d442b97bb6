"""Fast twin of the teacher-forced unroll of a decoder with one layer.

It gives the same results as stepping, faster and with less memory. Forward saves the state, the gates, the log-weights and
the coverage of each step. The (B, S, A) tensor of additive energies is computed in one buffer, and again in backward. The
gradient of each weight is one matrix product over all steps. The gradient of the keys is accumulated in place.

Notation: y_t is the embedding of the input token, h_t the output, c_t the cell state of the LSTM, ctx_t the context,
value_i and k_i the value and the key of source position i, cov_t the coverage of the steps before t (cov_1 = 0), f_i the
fertility, and m the mask of recurrent dropout. g_t are the pre-activations of the gates, and u_t is the part of them that
depends on h_{t-1}, which the GRU keeps separate. Step t computes::

    u_t = W_h (m * h_{t-1}) + b        g_t = W_e y_t + b_e + W_c ctx_{t-1} + u_t      (GRU: g_t without u_t)
    h_t, c_t = cell(g_t, u_t, h_{t-1}, c_{t-1})
    q_t = scale * Q h_t                                                               (dot, general: Q = identity)
    e_ti = v . tanh(q_t + k_i + w cov_ti)     or     q_t . k_i + w cov_ti
    a_t = softmax(e_t)       ctx_t = sum_i a_ti value_i       cov_{t+1,i} = cov_ti + a_ti / f_i

Backward goes from the last step to the first. dX is the gradient of the loss with respect to X; outer(X) is the part of dX
that comes from outside of the unroll. At the last step, the terms of step t+1 are 0::

    dctx_t  = outer(ctx_t) + W_c^T dg_{t+1}
    da_ti   = value_i . dctx_t + dcov_{t+1,i} / f_i
    dlog_ti = outer(log a_ti) + a_ti da_ti              de_ti = dlog_ti - a_ti sum_j dlog_tj
    additive, with s_ti = 1 - tanh^2 of the argument:   dq_t = v * sum_i de_ti s_ti
              dcov_ti = dcov_{t+1,i} + de_ti (s_ti . (v * w))
    product:  dq_t = sum_i de_ti k_i                    dcov_ti = dcov_{t+1,i} + w de_ti
    dh_t    = outer(h_t) + scale * Q^T dq_t + m * (W_h^T du_{t+1}) + (path of h_t to h_{t+1} except through the gates)
    dg_t, du_t, dc_{t-1} from dh_t and dc_t by the backward of the cell, ``layers.fast.cells``   (du_t = dg_t except for the GRU)

The other gradients are sums over the steps::

    dW_h = sum_t du_t (m * h_{t-1})^T     db = sum_t du_t     dW_c = sum_t dg_t ctx_{t-1}^T     dQ = scale sum_t dq_t h_t^T
    dvalue_i = sum_t a_ti dctx_t          df_i = - sum_t dcov_{t+1,i} a_ti / f_i^2
    additive: dk_i = v * sum_t de_ti s_ti       dv = sum_ti de_ti tanh(...)_ti       dw = v * sum_ti de_ti cov_ti s_ti
    product:  dk_i = sum_t de_ti q_t            dw = sum_ti de_ti cov_ti
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seq2seq.layers.attention import MASKED
from seq2seq.layers.fast.cells import FastCell, StepTensors, tanh_slope


class UnrollOptions(NamedTuple):
    """Non-tensor options of the unroll."""

    cell: FastCell
    additive: bool  # additive energies; False: dot products
    scale: float  # factor of the query


class UnrollWeights(NamedTuple):
    """Parameters of one decoder layer and its attention; None if there is no such parameter."""

    hidden: Tensor  # (G*H, H), W_h
    bias: Tensor  # (G*H,), b
    context: Tensor  # (G*H, M), W_c
    query: Tensor | None  # (A, H), Q
    energy: Tensor | None  # (A,), v of additive energies
    coverage: Tensor | None  # (A,) or (1,), w
    recurrent_mask: Tensor | None  # (B, H), m; has no gradient


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
    """Tensors saved for backward. The result of step t has index t+1 in outputs, cells, coverage and the contexts."""

    values: Tensor  # (B, S, M)
    keys: Tensor  # (B, S, A)
    mask: Tensor  # (B, S)
    fertility: Tensor  # (B, S), or (B, 0) without coverage
    inputs: Tensor  # (T+1, B, H+M), the previous output after recurrent dropout, then the previous context
    outputs: Tensor  # (T+1, B, H)
    cells: Tensor  # (T+1, B, H), or (T+1, B, 0)
    gates: Tensor  # (T, B, G*H)
    hidden_gates: Tensor  # (T, B, G*H), u_t of a cell that keeps it separate, else empty
    log_weights: Tensor  # (T, B, S)
    coverage: Tensor  # (T+1, B, S), or (T+1, B, 0)

    def step(self, t: int) -> StepTensors:
        """Return the tensors of the cell at step t."""
        return StepTensors(
            self.gates[t],
            self.hidden_gates[t],
            self.outputs[t],
            self.cells[t],
            self.outputs[t + 1],
            self.cells[t + 1],
        )


class FastUnroll(torch.autograd.Function):
    """Runs the teacher-forced unroll.

    (options, gates (T, B, G*H), hidden (B, W), context (B, M), values, keys, mask, fertility, *weights) -> the fields of
    ``Unrolled``. ``gates`` are W_e y_t + b_e, step first, and are not changed. The other shapes are those of ``Memory``.
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
        weights = UnrollWeights(*flat)  # type: ignore[arg-type]
        (T, B, _), S, H, cell = gates.shape, keys.shape[1], weights.hidden.shape[1], options.cell
        inputs = gates.new_empty(T + 1, B, H + context.shape[1])
        contexts = inputs[:, :, H:]
        saved = _Saved(
            *(values, keys, mask, fertility, inputs),
            outputs=inputs[:, :, :H] if weights.recurrent_mask is None else gates.new_empty(T + 1, B, H),
            cells=gates.new_empty(T + 1, B, hidden.shape[1] - H),
            gates=gates + (0 if cell.separate else weights.bias),
            hidden_gates=gates.new_empty(T, B, gates.shape[2] if cell.separate else 0),
            log_weights=gates.new_empty(T, B, S),
            coverage=gates.new_zeros(T + 1, *fertility.shape),
        )
        saved.outputs[0], saved.cells[0], contexts[0] = hidden[:, :H], hidden[:, H:], context
        buffer = torch.empty_like(keys) if options.additive else keys
        both = torch.cat((weights.hidden, weights.context), dim=1).T
        for t in range(T):
            if weights.recurrent_mask is not None:
                torch.mul(saved.outputs[t], weights.recurrent_mask, out=inputs[t, :, :H])
            if cell.separate:
                torch.addmm(weights.bias, inputs[t, :, :H], weights.hidden.T, out=saved.hidden_gates[t])
                saved.gates[t].addmm_(contexts[t], weights.context.T)
            else:
                saved.gates[t].addmm_(inputs[t], both)
            cell.forward(saved.step(t))
            query = _query(options, weights, saved.outputs[t + 1])
            energies = _energies(options, weights, query, keys, saved.coverage[t], buffer)
            torch.log_softmax(energies.masked_fill_(~mask, MASKED), dim=1, out=saved.log_weights[t])
            attended = saved.log_weights[t].masked_fill_(~mask, MASKED).exp()
            contexts[t + 1] = torch.bmm(attended.unsqueeze(1), values).squeeze(
                1
            )  # bmm with out= is slow for this slice
            if weights.coverage is not None:
                saved.coverage[t + 1] = saved.coverage[t] + attended / fertility
        ctx.options, ctx.absent = options, [weight is None for weight in weights]
        ctx.save_for_backward(*saved, *(weight for weight in weights if weight is not None))
        return tuple(steps.transpose(0, 1) for steps in (saved.outputs[1:], contexts[1:], saved.log_weights))  # type: ignore[return-value]

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        saved, present = _Saved(*tensors[: len(_Saved._fields)]), iter(tensors[len(_Saved._fields) :])
        weights = UnrollWeights(*(None if absent else next(present) for absent in ctx.absent))  # type: ignore[arg-type]
        d_outputs, d_contexts, d_log_weights = (gradient.transpose(0, 1) for gradient in outer)
        unroll = _Backward(ctx.options, weights, saved)
        for t in reversed(range(len(saved.log_weights))):
            unroll.weights_backward(t, d_contexts[t], d_log_weights[t])
            unroll.energies_backward(t)
            unroll.cell_backward(t, d_outputs[t])
        return unroll.gradients()


class _Backward:
    """The backward pass: its buffers and steps. ``d_x`` is the gradient of the loss with respect to x."""

    def __init__(self, options: UnrollOptions, weights: UnrollWeights, saved: _Saved) -> None:
        self.options, self.weights, self.saved = options, weights, saved
        steps, batch, _ = saved.log_weights.shape
        self.attended = saved.log_weights.exp()
        self.queries = _query(options, weights, saved.outputs[1:])
        self.d_gates = torch.empty_like(saved.gates)
        self.d_hidden_gates = torch.empty_like(saved.gates) if options.cell.separate else self.d_gates
        self.d_contexts = saved.inputs.new_empty(steps, batch, saved.values.shape[2])
        self.d_energies = torch.empty_like(saved.log_weights)
        self.d_queries = saved.keys.new_empty(steps, batch, saved.keys.shape[2])
        self.d_keys, self.d_fertility = torch.zeros_like(saved.keys), torch.zeros_like(saved.fertility)
        self.d_energy = None if weights.energy is None else torch.zeros_like(weights.energy)
        self.d_coverage_weight = None if weights.coverage is None else torch.zeros_like(weights.coverage)
        self.buffer = torch.empty_like(saved.keys) if options.additive else saved.keys
        self.both = torch.cat((weights.hidden, weights.context), dim=1)
        # gradients that step t+1 passes to step t
        self.d_output, self.d_cell = torch.zeros_like(saved.outputs[0]), torch.zeros_like(saved.cells[0])
        self.d_context, self.d_coverage = torch.zeros_like(self.d_contexts[0]), torch.zeros_like(saved.fertility)

    def weights_backward(self, t: int, d_context: Tensor, d_log_weights: Tensor) -> None:
        """Compute the gradient of the energies from those of the context and of the coverage after step t."""
        saved, attended = self.saved, self.attended[t]
        torch.add(self.d_context, d_context, out=self.d_contexts[t])
        d_attended = torch.bmm(saved.values, self.d_contexts[t].unsqueeze(2)).squeeze(2)
        if self.weights.coverage is not None:
            d_attended += self.d_coverage / saved.fertility
            self.d_fertility -= self.d_coverage * attended / saved.fertility.square()
        d_log = torch.addcmul(d_log_weights, d_attended, attended).masked_fill_(~saved.mask, 0.0)
        torch.addcmul(d_log, attended, d_log.sum(dim=1, keepdim=True), value=-1, out=self.d_energies[t])

    def energies_backward(self, t: int) -> None:
        """Compute the gradients of query, coverage and parameters from that of the energies; additive: also of the keys."""
        d_energies, coverage = self.d_energies[t], self.saved.coverage[t]
        if self.options.additive:
            self._additive_backward(t)
            return
        torch.bmm(d_energies.unsqueeze(1), self.saved.keys, out=self.d_queries[t].unsqueeze(1))
        if self.weights.coverage is not None:
            assert self.d_coverage_weight is not None
            self.d_coverage_weight += (d_energies * coverage).sum()
            self.d_coverage = self.d_coverage + d_energies * self.weights.coverage

    def _additive_backward(self, t: int) -> None:
        weights, d_energies, coverage = self.weights, self.d_energies[t], self.saved.coverage[t]
        assert weights.energy is not None
        assert self.d_energy is not None
        compared = _compare(weights, self.queries[t], self.saved.keys, coverage, self.buffer)
        self.d_energy.addmv_(compared.T, d_energies.flatten())
        slopes = tanh_slope(self.buffer, out=self.buffer)  # d_keys is multiplied by v at the end
        self.d_keys.addcmul_(d_energies.unsqueeze(2), slopes)
        if weights.coverage is None:
            torch.bmm(d_energies.unsqueeze(1), slopes, out=self.d_queries[t].unsqueeze(1))
            self.d_queries[t].mul_(weights.energy)
            return
        assert self.d_coverage_weight is not None
        two = torch.bmm(torch.stack((d_energies, d_energies * coverage), dim=1), slopes)
        torch.mul(two[:, 0], weights.energy, out=self.d_queries[t])
        self.d_coverage_weight += two[:, 1].sum(dim=0)
        self.d_coverage = self.d_coverage + d_energies * (slopes @ (weights.energy * weights.coverage))

    def cell_backward(self, t: int, d_output: Tensor) -> None:
        """Compute the gradients of the gates and of the previous output, cell state and context from that of the output."""
        weights, cell = self.weights, self.options.cell
        d_query = self.d_queries[t].mul_(self.options.scale)
        d_output = self.d_output + d_output + (d_query if weights.query is None else d_query @ weights.query)
        d_h, direct, self.d_cell = cell.backward(self.saved.step(t), d_output, self.d_cell, self.d_gates[t])
        if cell.separate:
            self.d_hidden_gates[t] = d_h
            d_last, self.d_context = d_h @ weights.hidden, self.d_gates[t] @ weights.context
        else:
            d_last, self.d_context = (self.d_gates[t] @ self.both).split(
                (weights.hidden.shape[1], weights.context.shape[1]), dim=1
            )
        d_last = d_last if weights.recurrent_mask is None else d_last * weights.recurrent_mask
        self.d_output = d_last if direct is None else d_last + direct

    def gradients(self) -> tuple[Tensor | None, ...]:
        """Compute the sums over all steps; return the gradients in the order of the arguments of ``FastUnroll``."""
        weights, saved = self.weights, self.saved
        d_keys = self.d_keys
        if self.options.additive:
            assert weights.energy is not None
            d_keys.mul_(weights.energy)
            if self.d_coverage_weight is not None:
                self.d_coverage_weight.mul_(weights.energy)
        else:
            d_keys = torch.bmm(self.d_energies.permute(1, 2, 0), self.queries.transpose(0, 1))
        d_values = torch.bmm(self.attended.permute(1, 2, 0), self.d_contexts.transpose(0, 1))
        flat_gates, flat_hidden_gates = self.d_gates.flatten(0, 1), self.d_hidden_gates.flatten(0, 1)
        widths = (weights.hidden.shape[1], weights.context.shape[1])
        last_outputs, last_contexts = saved.inputs[:-1].flatten(0, 1).split(widths, dim=1)
        d_query = None
        if weights.query is not None:
            d_query = self.d_queries.flatten(0, 1).T @ saved.outputs[1:].flatten(0, 1)
        d_weights = UnrollWeights(
            hidden=flat_hidden_gates.T @ last_outputs,
            bias=flat_hidden_gates.sum(dim=0),
            context=flat_gates.T @ last_contexts,
            query=d_query,
            energy=self.d_energy,
            coverage=self.d_coverage_weight,
            recurrent_mask=None,
        )
        d_hidden = torch.cat((self.d_output, self.d_cell), dim=1)
        d_memory = (d_values, d_keys, None, self.d_fertility)
        return (None, self.d_gates, d_hidden, self.d_context, *d_memory, *d_weights)


def _query(options: UnrollOptions, weights: UnrollWeights, output: Tensor) -> Tensor:
    """Project outputs to queries: (..., H) -> (..., A)."""
    query = output if weights.query is None else output @ weights.query.T
    return query if options.scale == 1 else query * options.scale


def _energies(
    options: UnrollOptions, weights: UnrollWeights, query: Tensor, keys: Tensor, coverage: Tensor, buffer: Tensor
) -> Tensor:
    """Compute the energies of one query per sentence: (B, A), (B, S, A), (B, S) -> (B, S)."""
    if options.additive:
        assert weights.energy is not None
        return (_compare(weights, query, keys, coverage, buffer) @ weights.energy).view(keys.shape[:2])
    energies = torch.bmm(keys, query.unsqueeze(2)).squeeze(2)
    return energies if weights.coverage is None else energies.addcmul_(weights.coverage, coverage)


def _compare(weights: UnrollWeights, query: Tensor, keys: Tensor, coverage: Tensor, buffer: Tensor) -> Tensor:
    """Compute tanh(q_t + k_i + w cov_ti) in ``buffer`` (B, S, A); return a (B*S, A) view of it."""
    torch.add(keys, query.unsqueeze(1), out=buffer)
    if weights.coverage is not None:
        buffer.addcmul_(coverage.unsqueeze(2), weights.coverage)
    return buffer.tanh_().flatten(0, 1)
