"""The plain next token: its methods agree with the full table."""

from __future__ import annotations

import math

import pytest
import torch

from seq2seq.search.next_token import LogProbs

N, V = 5, 9


@pytest.fixture
def table() -> torch.Tensor:
    return torch.log_softmax(torch.randn(N, V, generator=torch.Generator().manual_seed(1)), dim=1)


@pytest.mark.parametrize("k", [1, 3, V])
@pytest.mark.parametrize("banned", [(), (2,), (7, 0)])
def test_best_is_the_sorted_table_without_the_banned_ids(table: torch.Tensor, k: int, banned: tuple[int, ...]) -> None:
    log_probs, ids = LogProbs(table).best(k, banned)
    allowed = table.clone()
    allowed[:, list(banned)] = -math.inf
    expected, _ = allowed.sort(dim=1, descending=True)
    assert torch.equal(log_probs, expected[:, :k])
    possible = log_probs > -math.inf
    assert torch.equal(allowed.gather(1, ids)[possible], log_probs[possible])
    assert possible.sum().item() == N * min(k, V - len(banned))


def test_best_has_no_more_columns_than_there_are_ids(table: torch.Tensor) -> None:
    for banned in ((), (3,)):
        log_probs, ids = LogProbs(table).best(2 * V, banned)
        assert log_probs.shape == ids.shape == (N, V)
        assert all(sorted(row) == list(range(V)) for row in ids.tolist())


def test_at_returns_single_values(table: torch.Tensor) -> None:
    ids = torch.tensor([[0, 8], [3, 3], [1, 2], [4, 5], [8, 0]])
    expected = [[table[row, i].item() for i in line] for row, line in enumerate(ids.tolist())]
    assert LogProbs(table).at(ids).tolist() == expected
    assert torch.equal(LogProbs(table).log_probs(), table)
