"""GVCO as a torch optimizer: resumes bit for bit, refuses what it cannot do."""

import copy
import io
import math
import os
import pickle
import sys

import pytest
import torch
import warm
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR

from hqcnn_lab.optim import GVCO
from hqcnn_lab.optim.gvco_rule import ROWS


def network(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))


def train(net, optimizer, steps, seed):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        x = torch.randn(16, 6, generator=generator)
        optimizer.zero_grad()
        (net(x)[:, 0] - x[:, 0] * x[:, 1]).square().mean().backward()
        optimizer.step()


def one_parameter(value=1.0, **hyper):
    parameter = torch.nn.Parameter(torch.full((3,), value))
    return parameter, GVCO([parameter], **hyper)


def test_maximize_climbs():
    up, up_optimizer = one_parameter(maximize=True)
    down, down_optimizer = one_parameter()
    up.grad, down.grad = -torch.ones(3), torch.ones(3)
    up_optimizer.step()
    down_optimizer.step()
    assert torch.equal(up, down)
    assert torch.equal(up.grad, -torch.ones(3)), "the gradient itself is not changed"


@pytest.mark.parametrize("foreach", [True, False, None])
def test_resumes_bit_for_bit_from_a_file(foreach):
    net = network()
    optimizer = GVCO(net.parameters(), foreach=foreach, weight_decay=0.01)
    train(net, optimizer, 15, seed=1)
    file = io.BytesIO()
    torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, file)
    train(net, optimizer, 15, seed=2)

    file.seek(0)
    saved = torch.load(file, weights_only=True)
    again = network(seed=9)
    again.load_state_dict(saved["net"])
    resumed = GVCO(again.parameters(), lr=1.0)
    train(again, resumed, 3, seed=3)  # the state it held before must not survive
    again.load_state_dict(saved["net"])
    resumed.load_state_dict(saved["optimizer"])
    train(again, resumed, 15, seed=2)
    assert all(map(torch.equal, net.parameters(), again.parameters()))


def test_state_is_tensors_and_numbers():
    net = network()
    optimizer = GVCO(net.parameters())
    train(net, optimizer, 2, seed=1)
    saved = optimizer.state_dict()
    assert all(isinstance(value, torch.Tensor) for state in saved["state"].values() for value in state.values())
    for group in saved["param_groups"]:
        assert all(value is None or isinstance(value, int | float | str | list) for value in group.values())
    for state in optimizer.state.values():
        assert all(state[key].shape == () for key in ("noise", "rate", "average_weight"))


def test_a_checkpoint_older_than_an_argument_loads():
    parameter, optimizer = one_parameter()
    parameter.grad = torch.ones(3)
    optimizer.step()
    old = copy.deepcopy(optimizer.state_dict())
    del old["param_groups"][0]["tau"], old["state"][0]["peak_rate"]
    other, resumed = one_parameter(tau=7.0)
    resumed.load_state_dict(old)
    assert resumed.param_groups[0]["tau"] == 7.0
    other.grad = torch.ones(3)
    resumed.step()
    assert other.isfinite().all()


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_copies_continue_alike_and_apart(duplicate):
    net = network()
    optimizer = GVCO(net.parameters())
    train(net, optimizer, 12, seed=1)
    other_net, other = duplicate((net, optimizer))
    train(other_net, other, 5, seed=2)
    untouched = [p.detach().clone() for p in net.parameters()]
    train(net, optimizer, 5, seed=2)
    assert all(map(torch.equal, net.parameters(), other_net.parameters()))
    assert not any(map(torch.equal, net.parameters(), untouched))


def test_one_nan_step_leaves_only_its_tensor_as_it_was():
    for foreach in (True, False, None):
        sick, well = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
        optimizer = GVCO([sick, well], weight_decay=0.1, foreach=foreach)
        for _ in range(3):
            sick.grad, well.grad = torch.randn(3), torch.randn(3)
            optimizer.step()
        held = copy.deepcopy([sick.detach(), *optimizer.state[sick].values()])
        well_before = well.detach().clone()
        for bad in (math.nan, math.inf, 1e30):  # 1e30 is finite, its square is not
            sick.grad, well.grad = torch.tensor([1.0, bad, 1.0]), torch.ones(3)
            optimizer.step()
        assert all(map(torch.equal, held, [sick.detach(), *optimizer.state[sick].values()]))
        assert not torch.equal(well, well_before)
        sick.grad = torch.ones(3)
        optimizer.step()
        assert sick.isfinite().all()
        assert not torch.equal(sick, held[0])


@pytest.mark.parametrize("foreach", [True, False, None])
def test_a_square_that_overflows_leaves_the_tensor_as_it_was(foreach):
    # Regression: |g|²/n is finite here, the square of one element with the floor's share is not.
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = GVCO([parameter], foreach=foreach)
    parameter.grad = torch.tensor([1.8e19, 0.0])
    optimizer.step()
    assert torch.equal(parameter, torch.ones(2))
    for _ in range(3):
        parameter.grad = torch.ones(2)
        optimizer.step()
    assert (parameter < 1).all()


def test_the_way_of_stepping_may_change_between_steps():
    nets = network(), network()
    steady, changing = GVCO(nets[0].parameters(), foreach=True), GVCO(nets[1].parameters())
    for t, foreach in enumerate((None, True, False, None, False)):
        changing.param_groups[0]["foreach"] = foreach
        train(nets[0], steady, 3, seed=t)
        train(nets[1], changing, 3, seed=t)
    torch.testing.assert_close(list(nets[0].parameters()), list(nets[1].parameters()), rtol=1e-5, atol=1e-6)


def test_a_nan_in_the_very_first_step_changes_nothing():
    parameter, optimizer = one_parameter()
    parameter.grad = torch.full((3,), math.nan)
    optimizer.step()
    assert torch.equal(parameter, torch.ones(3))


def test_parameters_without_gradient_wait():
    # Tensors come and go between steps; each must see the steps it would see alone.
    together = [torch.nn.Parameter(torch.ones(2)) for _ in range(3)]
    alone = [torch.nn.Parameter(torch.ones(2)) for _ in range(3)]
    joint, separate = GVCO(together), [GVCO([p]) for p in alone]
    generator = torch.Generator().manual_seed(0)
    for t in range(20):
        for i in range(3):
            gradient = torch.randn(2, generator=generator) if (t + i) % 3 else None
            together[i].grad = alone[i].grad = gradient
        joint.step()
        for optimizer in separate:
            optimizer.step()
    torch.testing.assert_close(together, alone)


def test_groups_have_their_own_settings():
    still, moving = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.full((2,), 2.0))
    optimizer = GVCO([{"params": [still], "lr": 0.0}, {"params": [moving], "warmup": 0}], lr=0.1)
    still.grad = moving.grad = torch.ones(2)
    optimizer.step()
    assert torch.equal(still, torch.ones(2))
    torch.testing.assert_close(moving.detach(), torch.full((2,), 1.8))  # the first step is the gradient's sign
    assert optimizer.state[still]["rate"].item() == 0
    assert optimizer.state[moving]["rate"].item() == pytest.approx(0.2)


def test_mixed_precisions_in_one_group():
    params = [torch.nn.Parameter(torch.ones(2, dtype=dtype)) for dtype in (torch.float32, torch.float64)]
    optimizer = GVCO(params)
    for _ in range(3):
        for parameter in params:
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    torch.testing.assert_close(params[0].double(), params[1])
    assert optimizer.state[params[1]]["noise"].dtype == torch.float64


@pytest.mark.parametrize("foreach", [True, False, None])
def test_strides_do_not_matter(foreach):
    dense = torch.nn.Parameter(torch.ones(4, 3, 5, 5))
    last = torch.nn.Parameter(torch.ones(4, 3, 5, 5).to(memory_format=torch.channels_last))
    gradient = torch.randn(4, 3, 5, 5)
    optimizer = GVCO([dense, last], foreach=foreach)
    for _ in range(3):
        dense.grad, last.grad = gradient, gradient.to(memory_format=torch.channels_last)
        optimizer.step()
    torch.testing.assert_close(dense, last)
    assert last.is_contiguous(memory_format=torch.channels_last)


def test_step_calls_the_closure_with_gradients_on():
    parameter, optimizer = one_parameter()

    def closure():
        optimizer.zero_grad()
        loss = parameter.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 3.0
    assert (parameter < 1).all()


@pytest.mark.parametrize(
    "scheduler",
    [
        lambda o: LambdaLR(o, lambda t: 1 / (1 + t)),
        lambda o: OneCycleLR(o, max_lr=0.1, total_steps=12, cycle_momentum=False),
    ],
)
def test_schedulers_drive_the_learning_rate(scheduler):
    parameter, optimizer = one_parameter(warmup=0, least_size=None)
    schedule, steps = scheduler(optimizer), []
    for _ in range(10):
        before = optimizer.state[parameter]["bold"].clone() if optimizer.state else parameter.detach().clone()
        parameter.grad = torch.ones(3)
        rate = optimizer.param_groups[0]["lr"]
        optimizer.step()
        schedule.step()
        steps.append(((before - optimizer.state[parameter]["bold"]) / rate)[0].item())
    assert steps[0] == pytest.approx(1.0, rel=1e-4)
    assert steps == sorted(steps), "a step is lr times what the gradient's variance makes of it"


def test_sparse_gradients_are_refused():
    table = torch.nn.Embedding(4, 2, sparse=True)
    optimizer = GVCO(table.parameters())
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()


@pytest.mark.parametrize(("dtype", "says"), [(torch.complex64, "complex"), (torch.bfloat16, "autocast")])
def test_parameters_it_cannot_serve_are_refused(dtype, says):
    with pytest.raises(TypeError, match=says):
        GVCO([torch.nn.Parameter(torch.ones(2, dtype=dtype))])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", -1.0),
        ("lr", math.nan),
        ("momentum", 1.0),
        ("momentum", 0.0),
        ("rho", 1.0),
        ("centering", 1.5),
        ("tau", 0.0),
        ("least_size", 0.0),
        ("walk", -1.0),
        ("recency", -0.5),
        ("warmup", 1.5),
        ("eps", 0.0),
        ("weight_decay", math.inf),
    ],
)
def test_invalid_settings_are_refused_by_name(name, value):
    parameter = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(ValueError, match=f"GVCO: {name} must be"):
        GVCO([parameter], **{name: value})
    with pytest.raises(ValueError, match=f"GVCO: {name} must be"):
        GVCO([{"params": [parameter], name: value}])


def test_a_refused_group_leaves_the_optimizer_as_it_was():
    parameter, optimizer = one_parameter()
    with pytest.raises(ValueError, match="rho"):
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))], "rho": 2.0})
    assert len(optimizer.param_groups) == 1
    parameter.grad = torch.ones(3)
    optimizer.step()


def test_state_takes_one_number_an_element_more_than_adamw():
    from hqcnn_lab.models import HQCNN

    net = HQCNN(n_classes=4, image_size=64, circuit={"n_wires": 4, "n_layers": 2})
    bytes_of = {}
    for optimizer in (GVCO(net.parameters()), torch.optim.AdamW(net.parameters())):
        for parameter in net.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        kept = {t.untyped_storage().data_ptr(): t for state in optimizer.state.values() for t in state.values()}
        bytes_of[type(optimizer)] = sum(t.untyped_storage().nbytes() for t in kept.values())
    assert bytes_of[GVCO] <= 1.51 * bytes_of[torch.optim.AdamW]


@pytest.mark.parametrize("foreach", [True, False, None])
def test_a_learning_rate_held_in_a_tensor_is_read_at_every_step(foreach):
    rate = torch.tensor(0.1)
    held, held_optimizer = one_parameter(lr=rate, foreach=foreach)
    plain, plain_optimizer = one_parameter(lr=0.1, foreach=foreach)
    for t in range(12):
        rate.fill_(0.1 / (1 + t))
        plain_optimizer.param_groups[0]["lr"] = 0.1 / (1 + t)
        held.grad = plain.grad = torch.tensor([1.0, 2.0 + t % 2, -1.0])
        held_optimizer.step()
        plain_optimizer.step()
    torch.testing.assert_close(held, plain)


def test_grad_scaler_changes_nothing_but_overflowing_steps():
    net, plain_net = network(), network()
    optimizer, plain = GVCO(net.parameters()), GVCO(plain_net.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3)
    generator = torch.Generator().manual_seed(1)
    for t in range(20):
        x = torch.randn(16, 6, generator=generator)
        optimizer.zero_grad()
        loss = net(x).square().mean()
        scaler.scale(loss * (math.inf if t == 7 else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()
        if t != 7:
            plain.zero_grad()
            plain_net(x).square().mean().backward()
            plain.step()
    torch.testing.assert_close(list(net.parameters()), list(plain_net.parameters()), rtol=1e-5, atol=1e-6)


def test_accumulated_gradients_are_one_gradient():
    net, whole_net = network(), network()
    optimizer, whole = GVCO(net.parameters()), GVCO(whole_net.parameters())
    generator = torch.Generator().manual_seed(1)
    for _ in range(15):
        x = torch.randn(16, 6, generator=generator)
        for each, stepper, parts in ((net, optimizer, x.split(4)), (whole_net, whole, [x])):
            stepper.zero_grad()
            for part in parts:
                (each(part).square().mean() / len(parts)).backward()
            stepper.step()
    torch.testing.assert_close(list(net.parameters()), list(whole_net.parameters()), rtol=1e-4, atol=1e-5)


def _replica(rank: int, store: str, results: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    net = torch.nn.parallel.DistributedDataParallel(network())
    optimizer = GVCO(net.parameters())
    generator = torch.Generator().manual_seed(1)
    for _ in range(12):
        x = torch.randn(16, 6, generator=generator)[rank::2]
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()
    torch.save([p.detach() for p in net.parameters()], f"{results}/{rank}.pt")
    del net, optimizer  # given up after the group, DDP waits for gloo's threads; one time in twenty for ever
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_replicas_of_a_distributed_run_stay_together(tmp_path):
    code = f"import sys; from {__name__} import _replica; _replica(int(sys.argv[1]), *sys.argv[2:])"
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    both = [warm.Process("-c", code, str(rank), str(tmp_path / "store"), str(tmp_path), **path) for rank in (0, 1)]
    for process in both:
        assert process.communicate() == ("", "")
        assert process.returncode == 0
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(map(torch.equal, first, second))
    net = network()
    optimizer = GVCO(net.parameters())
    generator = torch.Generator().manual_seed(1)
    for _ in range(12):
        optimizer.zero_grad()
        net(torch.randn(16, 6, generator=generator)).square().mean().backward()
        optimizer.step()
    torch.testing.assert_close(first, [p.detach() for p in net.parameters()], rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
def test_a_captured_step_replays_as_one_that_is_not():
    nets = [network().cuda() for _ in range(2)]
    rate = torch.tensor(0.01, device="cuda")
    optimizers = [GVCO(nets[0].parameters(), lr=rate), GVCO(nets[1].parameters(), lr=0.01)]
    for net in nets:
        for parameter in net.parameters():
            parameter.grad = torch.ones_like(parameter)
    for optimizer in optimizers:
        optimizer.step()  # builds the state
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        optimizers[0].step()
    generator = torch.Generator().manual_seed(0)
    for t in range(12):
        rate.fill_(0.01 / (1 + t))
        optimizers[1].param_groups[0]["lr"] = 0.01 / (1 + t)
        for captured, plain in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
            gradient = torch.randn(captured.shape, generator=generator).cuda()
            captured.grad.copy_(gradient)
            plain.grad = gradient
        graph.replay()
        optimizers[1].step()
    torch.testing.assert_close(list(nets[0].parameters()), list(nets[1].parameters()), rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu_and_never_synchronizes():
    nets = [network(), network().cuda()]
    optimizers = [GVCO(net.parameters(), weight_decay=0.01) for net in nets]
    generator = torch.Generator().manual_seed(0)
    for t in range(15):
        for on_cpu, on_gpu in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
            on_cpu.grad = torch.randn(on_cpu.shape, generator=generator)
            on_gpu.grad = on_cpu.grad.cuda()
        optimizers[0].step()
        if t:  # the first step builds the state
            torch.cuda.set_sync_debug_mode("error")
        try:
            optimizers[1].step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    for on_cpu, on_gpu in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(on_cpu, on_gpu.cpu(), rtol=1e-4, atol=1e-5)


FUSED = [
    {},
    {"weight_decay": 0.1, "maximize": True, "warmup": 0},
    {"tau": None, "recency": 1.0, "walk": 0.1},
    {"tau": None, "centering": 0.0, "least_size": None, "rho": 0.0},
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("hyper", FUSED, ids=str)
@pytest.mark.gpu
def test_kernels_agree_with_lists_on_a_cpu(hyper, dtype):
    pytest.importorskip("triton")
    generator = torch.Generator().manual_seed(0)
    shapes = [(5000,), (3, 7), (), (2048,), (300, 4000)]
    on_cpu = [torch.nn.Parameter(torch.randn(s, generator=generator, dtype=dtype)) for s in shapes]
    on_gpu = [torch.nn.Parameter(p.detach().cuda()) for p in on_cpu]
    lists, fused = GVCO(on_cpu, lr=0.05, foreach=True, **hyper), GVCO(on_gpu, lr=0.05, **hyper)
    for t in range(40):
        for one, other in zip(on_cpu, on_gpu, strict=True):
            one.grad = torch.randn(one.shape, generator=generator, dtype=dtype) * (100 if t == 15 else 1) + 0.3
            other.grad = one.grad.cuda()
        if t == 18:
            on_cpu[1].grad[0, 0] = on_gpu[1].grad[0, 0] = math.nan
        if t == 20:  # moved: the kernels find it where it is
            on_gpu[0].data = on_gpu[0].data.clone()
        lists.step()
        fused.step()
    assert all(bucket.fused for _, buckets in fused._buckets.values() for bucket in buckets)
    exact = dtype == torch.float64
    for one, other in zip(on_cpu, on_gpu, strict=True):
        torch.testing.assert_close(other.cpu(), one, rtol=1e-10 if exact else 1e-3, atol=1e-10 if exact else 1e-4)
        for name in ROWS:
            a, b = fused.state[other][name].cpu(), lists.state[one][name]
            torch.testing.assert_close(a, b, rtol=1e-9 if exact else 1e-3, atol=1e-9 if exact else 1e-3)


@pytest.mark.gpu
def test_kernels_resume_bit_for_bit():
    nets = [network().cuda() for _ in range(2)]
    optimizers = [GVCO(net.parameters(), weight_decay=0.01) for net in nets]
    generator = torch.Generator().manual_seed(0)

    def steps(n, *which):
        for _ in range(n):
            gradients = [torch.randn(p.shape, generator=generator).cuda() for p in nets[0].parameters()]
            for i in which:
                for parameter, gradient in zip(nets[i].parameters(), gradients, strict=True):
                    parameter.grad = gradient
                optimizers[i].step()

    steps(12, 0)
    nets[1].load_state_dict(nets[0].state_dict())
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    steps(12, 0, 1)
    assert all(map(torch.equal, nets[0].parameters(), nets[1].parameters()))


@pytest.mark.gpu
def test_without_a_compiler_it_steps_on_lists_and_says_so(monkeypatch):
    gvco_fused = pytest.importorskip("hqcnn_lab.optim.gvco_fused", exc_type=ImportError)

    class Broken:
        def __getitem__(self, grid):
            raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr(gvco_fused, "_measure", Broken())
    gvco_fused.can_run.cache_clear()
    net = network().cuda()
    optimizer = GVCO(net.parameters())
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = [p.detach().clone() for p in net.parameters()]
    with pytest.warns(UserWarning, match="Triton does not work here .Failed to find C compiler."):
        optimizer.step()
    assert not any(map(torch.equal, before, net.parameters()))
    gvco_fused.can_run.cache_clear()


def test_eval_shows_the_average_and_train_goes_on_from_where_it_was():
    net, untouched_net = network(), network()
    optimizer, untouched = GVCO(net.parameters()), GVCO(untouched_net.parameters())
    for seed in range(5):
        train(net, optimizer, 10, seed)
        train(untouched_net, untouched, 10, seed)
        before = [p.detach().clone() for p in net.parameters()]
        optimizer.eval()
        optimizer.eval()  # a second time changes nothing
        bolds = [optimizer.state[p]["bold"] for p in net.parameters()]
        for x, y, z in zip(net.parameters(), before, bolds, strict=True):
            torch.testing.assert_close(y, 0.1 * z + 0.9 * x, rtol=1e-5, atol=1e-6)
            assert not torch.equal(x, y)
        optimizer.train()
        optimizer.train()
    torch.testing.assert_close(list(net.parameters()), list(untouched_net.parameters()), rtol=1e-3, atol=1e-4)


def test_a_step_at_the_average_is_refused():
    parameter, optimizer = one_parameter()
    parameter.grad = torch.ones(3)
    optimizer.eval()
    with pytest.raises(RuntimeError, match=r"call optimizer\.train"):
        optimizer.step()
    optimizer.train()
    optimizer.step()
    assert (parameter < 1).all()


def test_the_average_is_better_than_the_iterates_it_is_of():
    generator = torch.Generator().manual_seed(0)
    parameter = torch.nn.Parameter(torch.ones(50))
    optimizer = GVCO([parameter], lr=0.05, walk=None, recency=1)
    for _ in range(1000):
        parameter.grad = parameter.detach() + torch.randn(50, generator=generator)
        optimizer.step()
    bold = optimizer.state[parameter]["bold"].square().mean()
    optimizer.eval()
    assert parameter.square().mean() < 0.6 * bold
