"""The operators of ATen that a torch.export archive may use: all of them compute numbers from numbers.

What is not here is refused: whatever touches files, memory maps, storage, other processes or the state of this one,
whatever makes tensors as long as its input says, and custom and higher-order operators. Overloads, in-place forms
(`relu_`) and copies of views (`view_copy`) go with their operator.
"""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import torch

from advmix.utils.errors import UserError
from advmix.utils.files import parse_json

KINDS = {
    "convolutions and products": """
        addbmm addmm addmv addr baddbmm bilinear bmm conv1d conv2d conv3d conv_depthwise3d conv_transpose1d
        conv_transpose2d conv_transpose3d convolution dot einsum inner kron linear matmul mm mv outer tensordot vdot
        _convolution _conv_depthwise2d _linalg_det addcdiv addcmul chain_matmul cross linalg_cross linalg_matmul
        linalg_multi_dot linalg_vecdot
    """,
    "normalisation": """
        batch_norm group_norm instance_norm layer_norm local_response_norm native_batch_norm native_group_norm
        native_layer_norm rms_norm _fused_rms_norm _native_batch_norm_legit _native_batch_norm_legit_functional
        _native_batch_norm_legit_no_training _batch_norm_with_update _batch_norm_with_update_functional
        _batch_norm_no_update _batch_norm_impl_index cosine_similarity linalg_norm linalg_vector_norm
        linalg_matrix_norm norm frobenius_norm renorm _weight_norm _weight_norm_interface
    """,
    "activations": """
        celu elu gelu glu hardshrink hardsigmoid hardswish hardtanh leaky_relu log_sigmoid log_sigmoid_forward
        log_softmax logit mish prelu _prelu_kernel relu relu6 rrelu rrelu_with_noise selu sigmoid silu softmax softplus
        softshrink tanh threshold _log_softmax _softmax _safe_softmax special_expit special_log_softmax special_softmax
    """,
    "pooling and windows": """
        adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
        adaptive_max_pool3d avg_pool1d avg_pool2d avg_pool3d col2im im2col max_pool1d max_pool1d_with_indices max_pool2d
        max_pool2d_with_indices max_pool3d max_pool3d_with_indices unfold _adaptive_avg_pool2d _adaptive_avg_pool3d
        fractional_max_pool2d max_unpool2d
    """,
    "attention, embedding and recurrence": """
        embedding gru gru_cell lstm lstm_cell rnn_relu rnn_relu_cell rnn_tanh rnn_tanh_cell scaled_dot_product_attention
        _native_multi_head_attention _scaled_dot_product_attention_math _scaled_dot_product_efficient_attention
        _scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_for_cpu _transformer_encoder_layer_fwd
        _thnn_fused_gru_cell _thnn_fused_lstm_cell
    """,
    "sampling and interpolation": """
        affine_grid_generator channel_shuffle constant_pad_nd grid_sampler grid_sampler_2d native_channel_shuffle pad
        pixel_shuffle pixel_unshuffle reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d
        replication_pad2d replication_pad3d upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d
        upsample_nearest2d upsample_nearest3d upsample_trilinear3d _pad_circular _pad_enum _upsample_bicubic2d_aa
        _upsample_bilinear2d_aa _upsample_nearest_exact1d _upsample_nearest_exact2d
    """,
    "shape": """
        alias as_strided atleast_1d atleast_2d atleast_3d block_diag broadcast_tensors broadcast_to cat chunk
        column_stack concat concatenate contiguous diag diag_embed diagonal diagonal_scatter dstack expand expand_as
        flatten flip fliplr flipud hsplit hstack meshgrid moveaxis movedim narrow numpy_T adjoint mH mT permute ravel
        repeat reshape reshape_as roll rot90 row_stack select select_scatter slice slice_scatter split split_with_sizes
        squeeze stack swapaxes swapdims t tensor_split tile transpose tril triu unbind unflatten unsafe_chunk
        unsafe_split unsafe_split_with_sizes unsqueeze view view_as view_as_complex view_as_real vsplit vstack
        _reshape_alias _unsafe_view
    """,
    "choosing": """
        argmax argmin argsort bucketize gather index index_add index_copy index_fill index_put index_reduce index_select
        isin kthvalue masked_fill masked_scatter max median min mode msort nanmedian one_hot put scatter scatter_add
        scatter_reduce searchsorted sort take take_along_dim topk where _unsafe_index _unsafe_index_put
        _unsafe_masked_index _unsafe_masked_index_put_accumulate _index_put_impl
    """,
    "arithmetic": """
        abs absolute acos acosh add angle arccos arccosh arcsin arcsinh arctan arctan2 arctanh asin asinh atan atan2
        atanh bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor ceil clamp clamp_max
        clamp_min clip complex conj conj_physical copysign cos cosh deg2rad digamma div divide erf erfc erfinv exp exp2
        expm1 fix float_power floor floor_divide fmax fmin fmod frac frexp heaviside hypot imag ldexp lerp lgamma log
        log10 log1p log2 logaddexp logaddexp2 maximum minimum mul multiply nan_to_num neg negative polar positive pow
        rad2deg real reciprocal remainder resolve_conj resolve_neg round rsqrt rsub sgn sign sin sinc sinh special_erf
        special_log1p special_expm1 special_xlogy sqrt square sub subtract tan true_divide trunc xlogy
    """,
    "comparison": """
        all allclose any eq equal ge greater greater_equal gt isclose isfinite isinf isnan isneginf isposinf isreal le
        less less_equal logical_and logical_not logical_or logical_xor lt ne not_equal signbit
    """,
    "reductions": """
        amax amin aminmax cdist corrcoef count_nonzero cov cummax cummin cumprod cumsum diff dist logcumsumexp logsumexp
        mean nanmean nanquantile nansum pairwise_distance prod quantile std std_mean sum sum_to_size trace trapezoid var
        var_mean _cdist_forward
    """,
    "linear algebra and spectra": """
        det fft_fft fft_fft2 fft_fftn fft_fftshift fft_ifft fft_ifft2 fft_ifftn fft_ifftshift fft_irfft fft_irfft2
        fft_irfftn fft_rfft fft_rfft2 fft_rfftn inverse linalg_cholesky linalg_det linalg_inv linalg_inv_ex linalg_qr
        linalg_solve logdet matrix_exp matrix_power stft _fft_c2c _fft_c2r _fft_r2c
    """,
    "constants and copies": """
        arange clone copy detach empty empty_like empty_permuted eye fill full full_like lift lift_fresh linspace
        new_empty new_full new_ones new_zeros ones ones_like scalar_tensor tril_indices triu_indices zero zeros
        zeros_like _to_copy to type_as
    """,
    "chance": """
        alpha_dropout bernoulli dropout feature_alpha_dropout feature_dropout native_dropout normal rand rand_like randn
        randn_like uniform
    """,
    "whole numbers": """
        choose_qparams dequantize fake_quantize_per_channel_affine fake_quantize_per_channel_affine_cachemask
        fake_quantize_per_tensor_affine fake_quantize_per_tensor_affine_cachemask quantize_per_channel
        quantize_per_tensor int_repr q_scale q_zero_point _fake_quantize_per_tensor_affine_cachemask_tensor_qparams
    """,
    "sizes and what is asserted of them": """
        dim is_complex is_contiguous is_floating_point is_nonzero numel size stride sym_constrain_range
        sym_constrain_range_for_size sym_is_contiguous sym_numel sym_size sym_stride sym_storage_offset
        _assert_scalar _assert_tensor_metadata
    """,
}

OPERATORS = frozenset(name for names in KINDS.values() for name in names.split())

BETWEEN = r"(?:[\s\\)]|#[^\n]*\n)*"
"""What may stand between the parts of a name."""
CALLS = (
    r"from_file|save|load|(?:read|write|decode|encode)_(?:file|image|video|png|jpegs?\w*)|rpc_\w+|(?:manual_|initial_)?seed"
    r"|set_grad_enabled|set_data|_cufft_\w+|AddStatValue"
)
"""What TorchScript can call that touches files, other processes, or the state of this one."""
REACHING_OUT = re.compile(rf"\.{BETWEEN}({CALLS})\b|\b({CALLS}){BETWEEN}\(")
KNOWN = ("aten", "prim", "quantized", "torchvision")
"""Where its operators may come from, all of which compute."""
NAMESPACE = re.compile(rf"(?<![.\w])ops\b(?!{BETWEEN}\.{BETWEEN}(?:{'|'.join(KNOWN)})\b){BETWEEN}\.?{BETWEEN}\w*")
ATTRIBUTE = re.compile(r"""\bgetattr\([\w.()\s]{0,1000}, "(?![A-Za-z_]\w*")[^"\\]*"\)""")
"""How torch writes an attribute whose name is a number or the like; with another name it does more than that."""
DEPTH = 8
"""How often one such attribute may stand within another."""
CLASSES = re.compile(rb"__torch__\s*\.\s*torch\s*\.\s*classes\s*\.\s*(?!quantized\b)[\w.]*")


def check_script(data: bytes, path: Path) -> bytes:
    """Let a TorchScript file pass, packed anew, or refuse it.

    Raises:
        UserError: not a zip archive, or one whose code calls more than what computes.
    """
    check_sizes(io.BytesIO(data), path)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for name, content in members.items():
        if name.endswith(".py"):
            _check_code(content.decode(), path)
        foreign = CLASSES.search(content) if name.endswith((".py", ".pkl")) else None
        if foreign:
            _refuse(foreign[0].decode(errors="replace"), path)
    return packed(members)


def _check_code(code: str, path: Path) -> None:
    for found in REACHING_OUT.finditer(code):
        _refuse(found[1] or found[2], path)
    for found in NAMESPACE.finditer(code):
        _refuse(found[0], path)
    plain = code
    for _ in range(DEPTH):
        plain = ATTRIBUTE.sub("attribute", plain)
    if re.search(r"\bgetattr\b", plain):
        _refuse("getattr", path)


def _refuse(what: str, path: Path) -> None:
    called = " ".join(what.split())[:80]
    raise UserError(
        f"{path}: refused, because its code calls {called}, which could do more than compute; save a network that only "
        "computes"
    )


MEMBERS = re.compile(
    r"[^/]+/(data/(weights/(weight_\d+|model_weights_config\.json)|constants/(tensor_\d+|model_constants_config\.json)"
    r"|sample_inputs/model\.pt)|models/model\.json|archive_format|archive_version|byteorder|\.data/\w+)"
)

EXTRA = re.compile(r"[^/]+/extra/")
"""What somebody put beside a network, as `extra_files`; it is left out."""

ATEN = re.compile(r"torch\.ops\.aten\.(?P<name>\w+)(\.\w+)?")

PLAIN = re.compile(
    r"_operator\.(add|sub|mul|truediv|floordiv|mod|eq|ne|lt|le|gt|ge|neg|getitem|and_|or_)|math\.(ceil|floor|trunc)"
    r"|torch\.sym_(int|float|max|min|not|ite|sum)"
)

EXPRESSION = re.compile(r"[\w\s+\-*/(),='<>]{0,10000}")

WORDS = re.compile(
    r"[su]\d+|\d{1,19}|Symbol|positive|integer|True|False|Integer|Add|Mul|Max|Min|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv"
    r"|IntTrueDiv|FloatTrueDiv|ToFloat|TruncToInt|FloorToInt|CeilToInt|Eq|Ne"
)

POWER = re.compile(r"\b[su]\d+\s*\*\*\s*[2-4](?![\d\s]*\*\*)|Pow\([su]\d+, Integer\((-1|[2-4])\)\)")

"""The only powers in sizes: of a symbol, and small. Others may take forever."""

NAME_KEYS = ("name", "as_name", "class_fqn")

WORD = re.compile(r"[\w.\-]*")
OTHER_TEXT = ("target", "as_operator", "expr_str", "as_expr", "in_spec", "out_spec", "torch_version")
"""Keys of text that is more than words: all but the last are checked on their own."""

CONTAINERS = (None, "builtins.tuple", "builtins.list", "builtins.dict")

LARGEST = 2**30

"""Elements of what constants in the graph make; a network for images has none near it."""

COUNTED = re.compile(r"arange|linspace")

END = 2**63 - 1

"""What `slice` says for: to the end."""

UNPACKED = 20

"""Times its own size that an archive may have unpacked, beyond a mebibyte."""


def check_archive(data: bytes, path: Path) -> bytes:
    """Let an archive pass, packed anew, or refuse it.

    Raises:
        UserError: not an archive of torch.export, or one with more in it than graph and tensors.
    """
    try:
        check_sizes(io.BytesIO(data), path)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [name for name in archive.namelist() if not EXTRA.match(name)]
            _check(path, len(set(names)) == len(names), "a name twice")
            for name in names:
                _check(path, MEMBERS.fullmatch(name) is not None, name)
            members = {name: archive.read(name) for name in names}
        for name, content in members.items():
            if name.endswith(".json"):
                members[name] = _checked_json(parse_json(content, f"{path}: {name}"), path)
            elif name.endswith("sample_inputs/model.pt"):
                _check_pickle(content, path, name)
        _check(path, any(name.endswith("/models/model.json") for name in names), "no models/model.json")
        return packed(members)
    except UserError:
        raise
    except Exception as error:  # zipfile raises many kinds for a damaged or hostile file; all mean the same to a user
        raise UserError(f"{path}: not a file of torch.export.save, or damaged ({error})") from error


def check_sizes(file: IO[bytes], path: Path) -> None:
    """Refuse a zip archive that would unpack to far more than it is; another file passes.

    Raises:
        UserError: saying how much.
    """
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        total = sum(member.file_size for member in archive.infolist())
    size = file.seek(0, io.SEEK_END)
    if total > UNPACKED * size + 2**20:
        raise UserError(f"{path}: refused, because {size:,} bytes would unpack to {total:,}; save it again")


def packed(members: Mapping[str, bytes]) -> bytes:
    """A zip file of the checked members alone: what else the old one hides from one reader or another stays behind."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def _check(path: Path, fine: bool, what: str) -> None:
    if not fine:
        raise UserError(
            f"{path}: refused, because loading it could execute more than a network ({what}); export it again with "
            "torch.export.save, without custom objects and operators"
        )


def _check_pickle(data: bytes, path: Path, name: str) -> None:
    """What cannot be read safely, torch would unpickle unsafely."""
    check_sizes(io.BytesIO(data), path)
    try:
        if data:
            torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception:  # torch raises many kinds
        _check(path, False, name)


def _checked_json(value: Any, path: Path) -> bytes:
    """The same JSON without notes and guards, all that is left of it checked."""
    for holder in _objects(value):
        _leave_out(holder)
    for holder in _objects(value):
        for key, item in holder.items():
            _check_entry(key, item, path)
        if "target" in holder and "inputs" in holder:
            _check_numbers(str(holder["target"]), holder["inputs"], path)
        if isinstance(meta := holder.get("tensor_meta"), dict):
            sizes = list(_numbers(meta.get("sizes"), int))
            _check(path, math.prod(sizes) <= LARGEST, f"a tensor of {sizes}")
    for text in _text(value):
        _check(path, WORD.fullmatch(text) is not None, f"text {text[:80]}")
    return json.dumps(value).encode()


def _leave_out(holder: dict[str, Any]) -> None:
    """Where a node came from, of which torch looks up names, and conditions on images, which it executes."""
    if holder.get("metadata") and ("target" in holder or "module_call_graph" in holder):
        holder["metadata"] = {}
    if holder.get("guards_code"):
        holder["guards_code"] = []


def _text(value: Any, in_node: bool = False) -> Iterator[str]:
    """Keys and strings at any depth, but those that are checked elsewhere, and what operators are given as text."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _text(item, in_node)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            if not (isinstance(item, str) and (key in OTHER_TEXT or (in_node and key == "as_string"))):
                yield from _text(item, in_node or key == "nodes")


def _check_entry(key: str, item: Any, path: Path) -> None:
    if key == "use_pickle":
        _check(path, item is False, "a pickled tensor")
    elif key == "path_name":
        _check(path, re.fullmatch(r"(weight|tensor)_\d+", str(item)) is not None, f"path {item}")
    elif (key == "target" and isinstance(item, str)) or key == "as_operator":
        _check(path, _computes(str(item)), f"operator {item}")
    elif key == "expr_str" or (key == "as_expr" and isinstance(item, str)):
        _check(path, _is_arithmetic(str(item)), f"expression {item}")
    elif key in NAME_KEYS and item:
        _check(path, re.fullmatch(r"\w+", str(item)) is not None, f"name {item}")
    elif key == "forward_arg_names" and item:
        _check(path, all(re.fullmatch(r"\w+", str(name)) for name in item), f"names {item}")
    elif key in ("in_spec", "out_spec") and item:
        _check_containers(item, path)


def _computes(target: str) -> bool:
    """Whether an operator is one of arithmetic: of Python's on sizes, or of ATen's, plain, in place, or copying."""
    found = ATEN.fullmatch(target)
    if found is None:
        return PLAIN.fullmatch(target) is not None
    name = found["name"]
    return bool(OPERATORS & {name, name.removesuffix("_"), name.removesuffix("_copy")})


def _is_arithmetic(text: str) -> bool:
    plain = POWER.sub("s0", re.sub(r"Symbol\('([su]\d+)'[^()]*\)", r"\1", text))
    words = [word for word in re.findall(r"\w+", text) if word != "Pow" or "Pow" in plain]
    return EXPRESSION.fullmatch(text) is not None and "**" not in plain and all(map(WORDS.fullmatch, words))


def _check_containers(item: Any, path: Path) -> None:
    _check(path, isinstance(item, str), f"containers {item}")
    for holder in _objects(parse_json(item, f"{path}: containers")):
        _check(path, holder.get("type") in CONTAINERS, f"containers {holder.get('type')}")
        context = holder.get("context")
        _check(path, not context or re.fullmatch(r'[\w\s\[\]",.\-]*', str(context)) is not None, f"names {context}")


def _check_numbers(target: str, inputs: Any, path: Path) -> None:
    """A constant in a graph can ask for more memory than there is, or for more steps than anybody waits for."""
    for argument in inputs:
        whole = [abs(number) for number in _numbers(argument, int)]
        _check(path, all(number <= LARGEST or number >= END for number in whole), f"{target} of {whole}")
        if "as_strided" not in target:  # strides are no sizes
            count = math.prod(number for number in whole if 0 < number < END)
            _check(path, count <= LARGEST, f"{target} of {whole}")
    if COUNTED.search(target):
        spans = [max(abs(number), 1 / abs(number)) for number in _numbers(inputs, float, int) if number]
        _check(path, math.prod(spans) <= LARGEST, f"{target} of {spans}")


def _numbers(value: Any, *kinds: type) -> Iterator[Any]:
    """The numbers in an argument, at any depth."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _numbers(item, *kinds)
    elif isinstance(value, kinds) and not isinstance(value, bool):
        yield value


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object, at any depth."""
    if isinstance(value, dict):
        yield value
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _objects(item)
