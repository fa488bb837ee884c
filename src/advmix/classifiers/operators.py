"""The operators of ATen that a torch.export archive may use: all of them compute numbers from numbers.

What is not here is refused: whatever touches files, memory maps, storage, other processes or the state of this one,
whatever makes tensors as long as its input says, and custom and higher-order operators. Overloads, in-place forms
(`relu_`) and copies of views (`view_copy`) go with their operator.
"""

from __future__ import annotations

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
