"""A1111's options that Easel answers and takes back, and that change nothing here: clients read them, and send them as they got them.

IDLE ones may be set to anything: what they rule does not exist here. FIXED ones rule pictures, so another value than Easel's is refused.
"""

from collections.abc import Mapping
from typing import Any

from webui.core.errors import BadRequest, NotAllowed
from webui.core.preferences import PREFERENCES

IDLE: dict[str, Any] = {
    "samples_filename_pattern": "",
    "save_images_add_number": True,
    "save_images_replace_action": "Replace",
    "grid_format": "png",
    "grid_extended_filename": False,
    "grid_prevent_empty_spots": False,
    "grid_zip_filename_pattern": "",
    "n_rows": -1,
    "font": "",
    "save_txt": False,
    "save_images_before_face_restoration": False,
    "save_images_before_highres_fix": False,
    "save_images_before_color_correction": False,
    "save_mask": False,
    "save_mask_composite": False,
    "webp_lossless": False,
    "export_for_4chan": False,
    "img_downscale_threshold": 4.0,
    "target_side_length": 4000.0,
    "img_max_size_mp": 200.0,
    "use_original_name_batch": True,
    "use_upscaler_name_as_suffix": False,
    "save_selected_only": True,
    "save_init_img": False,
    "clean_temp_dir_at_start": False,
    "save_to_dirs": True,
    "grid_save_to_dirs": True,
    "use_save_to_dirs_for_ui": False,
    "directories_filename_pattern": "[date]",
    "directories_max_prompt_words": 8,
    "samples_log_stdout": False,
    "multiple_tqdm": True,
    "print_hypernet_extra": False,
    "list_hidden_files": True,
    "memmon_poll_rate": 8,
    "api_enable_requests": False,
    "api_forbid_local_requests": True,
    "api_useragent": "",
    "unload_models_when_training": False,
    "pin_memory": False,
    "save_optimizer_state": False,
    "save_training_settings_to_txt": True,
    "training_image_repeats_per_epoch": 1,
    "training_write_csv_every": 500,
    "training_xattention_optimizations": False,
    "sd_checkpoints_limit": 1,
    "sd_checkpoints_keep_in_cpu": True,
    "sd_checkpoint_cache": 0,
    "sd_vae_checkpoint_cache": 0,
    "sd_vae_overrides_per_model_preferences": True,
    "auto_vae_precision": True,
    "auto_vae_precision_bfloat16": False,
    "cross_attention_optimization": "Automatic",
    "batch_cond_uncond": True,
    "upcast_attn": False,
    "enable_quantization": True,
    "persistent_cond_cache": True,
    "fp8_storage": "Disable",
    "cache_fp16_weight": False,
    "interrogate_keep_models_in_memory": False,
    "interrogate_return_ranks": False,
    "interrogate_clip_num_beams": 1,
    "interrogate_clip_min_length": 24,
    "interrogate_clip_max_length": 48,
    "interrogate_clip_dict_limit": 1500.0,
    "interrogate_clip_skip_categories": [],
    "interrogate_deepbooru_score_threshold": 0.5,
    "deepbooru_sort_alpha": True,
    "deepbooru_use_spaces": True,
    "deepbooru_escape": True,
    "deepbooru_filter_tags": "",
    "extra_networks_default_multiplier": 1.0,
    "sd_lora": "None",
    "lora_preferred_name": "Alias from file",
    "lora_add_hashes_to_infotext": True,
    "return_mask": False,
    "return_mask_composite": False,
    "do_not_show_images": False,
    "js_modal_lightbox": True,
    "show_progress_in_title": True,
    "send_seed": True,
    "send_size": True,
    "keyedit_precision_attention": 0.1,
    "keyedit_precision_extra": 0.05,
    "quicksettings_list": ["sd_model_checkpoint"],
    "quick_setting_list": [],
    "ui_tab_order": [],
    "hidden_tabs": [],
    "gradio_theme": "Default",
    "show_progressbar": True,
    "live_previews_image_format": "png",
    "live_preview_content": "Prompt",
    "live_preview_refresh_period": 1000.0,
    "live_preview_fast_interrupt": False,
    "show_progress_grid": True,
    "show_progress_type": "Approx cheap",
    "show_warnings": False,
    "interrupt_after_current": True,
    "hide_samplers": [],
    "add_model_hash_to_info": True,
    "add_model_name_to_info": True,
    "add_vae_hash_to_info": True,
    "add_vae_name_to_info": True,
    "add_version_to_infotext": True,
    "add_user_name_to_info": False,
    "disable_weights_auto_swap": True,
    "infotext_styles": "Apply if any",
    "prompt_queue_disabled": False,
    "disabled_extensions": [],
    "disable_all_extensions": "none",
    "restore_config_state_file": "",
    "sd_checkpoint_hash": "",
    "control_net_unit_count": 3,
    "upscaler_for_img2img": None,
    "upscaling_max_images_in_cache": 5,
    "ESRGAN_tile": 192,
    "ESRGAN_tile_overlap": 8,
    "realesrgan_enabled_models": [],
    "dat_enabled_models": [],
    "face_restoration_unload": False,
    "hires_fix_refiner_pass": "second pass",
    "refiner_switch_by_sample_steps": False,
    "postprocessing_enable_in_main_ui": [],
    "img2img_background_color": "#ffffff",
    "img2img_batch_show_results_limit": 32,
}

FIXED: dict[str, Any] = {
    "sdxl_crop_top": 0,
    "sdxl_crop_left": 0,
    "sdxl_refiner_low_aesthetic_score": 2.5,
    "sdxl_refiner_high_aesthetic_score": 6.0,
    "sd_hypernetwork": "None",
    "use_old_emphasis_implementation": False,
    "use_old_karras_scheduler_sigmas": False,
    "use_old_hires_fix_width_height": False,
    "no_dpmpp_sde_batch_determinism": False,
    "dont_fix_second_order_samplers_schedule": False,
    "hires_fix_use_firstpass_conds": False,
    "use_downcasted_alpha_bar": False,
    "enable_batch_seeds": True,
    "sd_unet": "Automatic",
    "sd_vae_encode_method": "Full",
    "sd_vae_decode_method": "Full",
    "overlay_inpaint": True,
    "face_restoration": False,
}

PREFERRED = frozenset(preference.name for preference in PREFERENCES)
OWN = PREFERRED | {"refiner_switch_by_sample_steps", "hires_fix_refiner_pass"}  # what a request may choose for itself
PATH_WORDS = ("_dir", "_path", "_folder", "_file", "dir_", "path_")


def checked_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that rule something here. Raises BadRequest for what Easel cannot do, NotAllowed for folders and files."""
    left: dict[str, Any] = {}
    for name, value in options.items():
        if name in PREFERRED:
            left[name] = value
        elif name in FIXED:
            check_fixed(name, value)
        elif name not in IDLE:
            if name.startswith("outdir") or any(word in name for word in PATH_WORDS):
                raise NotAllowed(f"{name[:100]}: no folder or file can be set over HTTP; flags at the start set them")
            left[name] = value
    return left


def check_fixed(name: str, value: Any) -> None:
    """Raises BadRequest where `value` is not the one that Easel works with; "0" and 0.0 are the same."""
    usual = FIXED[name]
    if value in (None, usual) or str(value).lower() == str(usual).lower() or _number(value) == _number(usual) is not None:
        return
    raise BadRequest(f"{name} {str(value)[:100]!r} is not supported by this version of Easel, which works with {usual!r}; leave it out")


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None
