"""Other programs' names of samplers and schedule types -> those that the field's web UI has."""

from webui.core.choices import SAMPLERS

COMFYUI_SAMPLERS = {
    "euler": "Euler",
    "euler_cfg_pp": "Euler CFG++",
    "euler_ancestral": "Euler a",
    "heun": "Heun",
    "heunpp2": "HeunPP2",
    "dpm_2": "DPM2",
    "dpm_2_ancestral": "DPM2 a",
    "lms": "LMS",
    "dpm_fast": "DPM fast",
    "dpm_adaptive": "DPM adaptive",
    "dpmpp_2s_ancestral": "DPM++ 2S a",
    "dpmpp_sde": "DPM++ SDE",
    "dpmpp_sde_gpu": "DPM++ SDE",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_2m_sde_gpu": "DPM++ 2M SDE",
    "dpmpp_2m_sde_heun": "DPM++ 2M SDE Heun",
    "dpmpp_3m_sde": "DPM++ 3M SDE",
    "dpmpp_3m_sde_gpu": "DPM++ 3M SDE",
    "ddim": "DDIM",
    "lcm": "LCM",
    "ipndm": "IPNDM",
    "deis": "DEIS",
    "uni_pc": "UniPC",
    "uni_pc_bh2": "UniPC",
}
COMFYUI_SCHEDULES = {
    "normal": "Normal",
    "karras": "Karras",
    "exponential": "Exponential",
    "sgm_uniform": "SGM Uniform",
    "simple": "Simple",
    "ddim_uniform": "DDIM",
    "beta": "Beta",
    "kl_optimal": "KL Optimal",
    "turbo": "Turbo",
    "align_your_steps": "Align Your Steps",
}
COMFYUI_SAMPLER_NODES = {  # class of a node that is one sampler
    "SamplerEulerAncestral": "Euler a",
    "SamplerEulerCFGpp": "Euler CFG++",
    "SamplerLMS": "LMS",
    "SamplerDPMAdaptative": "DPM adaptive",
    "SamplerDPMPP_2S_Ancestral": "DPM++ 2S a",
    "SamplerDPMPP_SDE": "DPM++ SDE",
    "SamplerDPMPP_2M_SDE": "DPM++ 2M SDE",
    "SamplerDPMPP_3M_SDE": "DPM++ 3M SDE",
}
COMFYUI_SCHEDULE_NODES = {
    "KarrasScheduler": "Karras",
    "ExponentialScheduler": "Exponential",
    "PolyexponentialScheduler": "Polyexponential",
    "SDTurboScheduler": "Turbo",
    "AlignYourStepsScheduler": "Align Your Steps",
    "BetaSamplingScheduler": "Beta",
}
COMFYUI_OPTIONS = {  # inputs of such nodes -> settings of an infotext
    "eta": "Eta",
    "s_noise": "Sigma noise",
    "sigma_min": "Schedule min sigma",
    "sigma_max": "Schedule max sigma",
    "rho": "Schedule rho",
    "alpha": "Beta schedule alpha",
    "beta": "Beta schedule beta",
}
NOVELAI_SAMPLERS = {
    "k_euler": "Euler",
    "k_euler_ancestral": "Euler a",
    "k_dpmpp_2m": "DPM++ 2M",
    "k_dpmpp_2m_sde": "DPM++ 2M SDE",
    "k_dpmpp_2s_ancestral": "DPM++ 2S a",
    "k_dpmpp_sde": "DPM++ SDE",
    "k_dpm_2": "DPM2",
    "k_dpm_2_ancestral": "DPM2 a",
    "k_dpm_fast": "DPM fast",
    "k_dpm_adaptive": "DPM adaptive",
    "k_heun": "Heun",
    "k_lms": "LMS",
    "plms": "PLMS",
    "ddim": "DDIM",
    "ddim_v3": "DDIM",
}
NOVELAI_SCHEDULES = {"karras": "Karras", "exponential": "Exponential", "polyexponential": "Polyexponential"}
INVOKEAI_SAMPLERS = {  # those with "_k" at their end are the same with Karras' schedule
    "euler": "Euler",
    "euler_a": "Euler a",
    "heun": "Heun",
    "lms": "LMS",
    "kdpm_2": "DPM2",
    "kdpm_2_a": "DPM2 a",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_sde": "DPM++ SDE",
    "ddim": "DDIM",
    "pndm": "PLMS",
    "plms": "PLMS",
    "unipc": "UniPC",
    "deis": "DEIS",
    "lcm": "LCM",
    "tcd": "TCD",
    "k_euler": "Euler",
    "k_euler_a": "Euler a",
    "k_lms": "LMS",
    "k_heun": "Heun",
    "k_dpm_2": "DPM2",
    "k_dpm_2_a": "DPM2 a",
    "k_dpmpp_2": "DPM++ 2M",
}


def evenly_spaced(sampler: str) -> str:
    """The schedule type of evenly spaced timesteps, which programs mean that name none: it is "Automatic" for most samplers here."""
    choice = SAMPLERS.get(sampler)
    return "Automatic" if choice is None or choice.default_schedule == "Uniform" else "Uniform"
