"""The choice of device and number types."""

import socket

import pytest
import torch

from webui.core.errors import BadRequest
from webui.engine.device import choose_device, memory_sentence, safe_half, share_cores


@pytest.fixture
def two_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.usefixtures("no_card")
def test_a_cpu_computes_in_fp32() -> None:
    device = choose_device()
    assert (device.torch_device.type, device.dtype, device.vae_dtype) == ("cpu", torch.float32, torch.float32)
    assert device.name == "CPU"


@pytest.mark.usefixtures("two_cards")
def test_a_card_computes_in_fp16_unless_told_otherwise() -> None:
    half, full = torch.float16, torch.float32
    assert (choose_device().dtype, choose_device().vae_dtype) == (half, half)
    assert (choose_device(no_half_vae=True).dtype, choose_device(no_half_vae=True).vae_dtype) == (half, full)
    assert (choose_device(no_half=True).dtype, choose_device(no_half=True).vae_dtype) == (full, full)
    assert choose_device(device_id=1).torch_device == torch.device("cuda", 1)
    assert choose_device(use_cpu=True).torch_device == torch.device("cpu")


@pytest.mark.usefixtures("two_cards")
@pytest.mark.parametrize(("has_bf16", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_what_overflows_in_fp16_works_in_bf16_where_the_card_has_it(
    monkeypatch: pytest.MonkeyPatch, has_bf16: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16 or including_emulation)
    assert safe_half() == expected


@pytest.mark.usefixtures("no_card")
def test_without_a_card_it_works_in_fp32() -> None:
    assert safe_half() == torch.float32


def test_memory_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (300 << 20, 8 << 30))
    assert memory_sentence(torch.device("cuda", 0)) == "0.3 of the card's 8.0 GiB are free"
    assert memory_sentence(torch.device("cpu")).endswith("GiB of main memory are free")


@pytest.mark.usefixtures("two_cards")
@pytest.mark.parametrize("number", [-1, 2])
def test_cards_that_are_not_there_are_refused(number: int) -> None:
    with pytest.raises(BadRequest, match="this machine has 2"):
        choose_device(device_id=number)


@pytest.mark.usefixtures("no_card")
def test_a_card_number_without_cards_is_refused() -> None:
    with pytest.raises(BadRequest, match="no CUDA card number 0"):
        choose_device(device_id=0)


@pytest.mark.usefixtures("two_cards")
def test_workers_take_the_cards_in_turn() -> None:
    assert [choose_device(worker=worker).torch_device.index for worker in range(4)] == [0, 1, 0, 1]
    assert choose_device(device_id=1, worker=2).torch_device.index == 1


@pytest.mark.usefixtures("two_cards")
def test_those_who_share_a_device_are_counted() -> None:
    card, cpu = choose_device(), choose_device(use_cpu=True)
    assert [card.sharers(workers) for workers in (1, 2, 3, 4)] == [1, 1, 2, 2]
    assert card.sharers(4, cards=1) == cpu.sharers(4) == 4


def test_workers_on_the_cpu_share_its_cores_unless_told_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    before, cpu = torch.get_num_threads(), choose_device(use_cpu=True)
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    try:
        torch.set_num_threads(6)
        share_cores(cpu, 1)
        assert torch.get_num_threads() == 6
        share_cores(cpu, 4)
        assert torch.get_num_threads() == 6
        monkeypatch.delenv("OMP_NUM_THREADS")
        share_cores(cpu, 4)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_the_device_is_told_with_its_machine() -> None:
    told = choose_device(use_cpu=True).told()
    assert (told["device"], told["host"]) == ("CPU", socket.gethostname())
    assert told["ram"]["total"] > 0


def test_memory_has_the_fields_of_the_api() -> None:
    memory = choose_device(use_cpu=True).memory()
    assert 0 < memory["ram"]["used"] < memory["ram"]["total"]
    assert memory["ram"].keys() == {"free", "used", "total"}
    assert "unavailable" in memory["cuda"]["error"]
