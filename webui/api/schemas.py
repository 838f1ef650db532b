"""The JSON shapes of /sdapi/v1: names and defaults as A1111's web UI 1.10 has them; see lenient.py for what else is taken."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from webui.api.lenient import Float, Int, Lenient, Object, OpenText, Text

Picture = Annotated[str, Field(description="base64, bare or as a data URI")]


class Generation(Lenient):
    """What txt2img and img2img share."""

    prompt: Text = ""
    negative_prompt: Text = ""
    styles: list[Text] = Field(default_factory=list)
    seed: Int = -1
    subseed: Int = -1
    subseed_strength: Float = 0.0
    seed_resize_from_h: Int = -1
    seed_resize_from_w: Int = -1
    sampler_name: OpenText = None
    scheduler: OpenText = None
    batch_size: Int = 1
    n_iter: Int = 1
    steps: Int = 50
    cfg_scale: Float = 7.0
    width: Int = 512
    height: Int = 512
    restore_faces: bool | None = None
    tiled_diffusion: Int = 0  # Easel's own: pixels a side that the UNet sees at once; 0: all
    tiled_diffusion_overlap: Int = 64
    tiling: OpenText = None  # a truth value, or the name of one axis
    do_not_save_samples: bool = False
    do_not_save_grid: bool = False
    eta: Float | None = None
    denoising_strength: Float = 0.75
    s_min_uncond: Float | None = None
    s_churn: Float | None = None
    s_tmax: Float | None = None
    s_tmin: Float | None = None
    s_noise: Float | None = None
    override_settings: Object = Field(default_factory=dict)
    override_settings_restore_afterwards: bool = True
    refiner_checkpoint: OpenText = None
    refiner_switch_at: Float | None = None
    disable_extra_networks: bool = False
    firstpass_image: Picture | None = None
    comments: dict[str, Any] | None = None
    force_task_id: OpenText = None
    sampler_index: Text = "Euler"
    script_name: OpenText = None
    script_args: list[Any] = Field(default_factory=list)
    send_images: bool = True
    save_images: bool = False
    alwayson_scripts: Object = Field(default_factory=dict)
    aesthetic: dict[str, Any] | None = None  # Easel's own: the fields of core.aesthetic.Aesthetic
    prediction_type: str | None = None  # Easel's own: one of core.family.PREDICTION_TYPES, or "Automatic": as the checkpoint's file says
    infotext: OpenText = None


class Txt2Img(Generation):
    enable_hr: bool = False
    firstphase_width: Int = 0
    firstphase_height: Int = 0
    hr_scale: Float = 2.0
    hr_upscaler: OpenText = None
    hr_second_pass_steps: Int = 0
    hr_resize_x: Int = 0
    hr_resize_y: Int = 0
    hr_checkpoint_name: OpenText = None
    hr_sampler_name: OpenText = None
    hr_scheduler: OpenText = None
    hr_prompt: Text = ""
    hr_negative_prompt: Text = ""
    hr_cfg: Float | None = None  # Forge's; null: as in the first pass


class Img2Img(Generation):
    init_images: list[Picture] | None = None
    resize_mode: Int = 0
    image_cfg_scale: Float | None = None
    mask: Picture | None = None
    mask_blur: Int | None = None
    mask_blur_x: Int = 4
    mask_blur_y: Int = 4
    mask_round: bool = True
    inpainting_fill: Int = 0
    inpaint_full_res: bool = True
    inpaint_full_res_padding: Int = 0
    inpainting_mask_invert: Int = 0
    initial_noise_multiplier: Float | None = None
    latent_mask: Picture | None = None
    include_init_images: bool = False


class Extras(Lenient):
    """What extra-single-image and extra-batch-images share."""

    resize_mode: Int = 0  # 0: by upscaling_resize, 1: to upscaling_resize_w x upscaling_resize_h
    show_extras_results: bool = True
    gfpgan_visibility: Float = 0.0
    codeformer_visibility: Float = 0.0
    codeformer_weight: Float = 0.0
    upscaling_resize: Float = 2.0
    upscaling_resize_w: Int = 512
    upscaling_resize_h: Int = 512
    upscaling_crop: bool = True
    upscaler_1: Text = "None"
    upscaler_2: Text = "None"
    extras_upscaler_2_visibility: Float = 0.0
    upscale_first: bool = False


class ExtrasSingle(Extras):
    image: Picture = ""


class FileData(Lenient):
    data: Picture
    name: Text = ""


class ExtrasBatch(Extras):
    imageList: list[FileData]


class ExtrasPicture(BaseModel):
    image: str
    html_info: str


class ExtrasPictures(BaseModel):
    images: list[str]
    html_info: str


class PngInfo(Lenient):
    image: Picture = ""


class Interrogation(Lenient):
    image: Picture = ""
    model: Text = "clip"


class TaskQuestion(Lenient):
    """id_live_preview: the number of the last preview that the client has."""

    id_task: Text = ""
    id_live_preview: Int = -1
    live_preview: bool = True


class TaskProgress(BaseModel):
    """How a task stands; eta in seconds; live_preview: a data URI, or null where the client has the latest."""

    active: bool = False
    queued: bool = False
    completed: bool = False
    progress: float | None = None
    eta: float | None = None
    live_preview: str | None = None
    id_live_preview: int = -1
    textinfo: str | None = None


class Pictures(BaseModel):
    """The answer of txt2img and img2img: base64 pictures, the request with its defaults, and facts as a JSON string."""

    images: list[str]
    parameters: dict[str, Any]
    info: str


class PromptStyle(BaseModel):
    name: str
    prompt: str = ""
    negative_prompt: str = ""


class PngInfoAnswer(BaseModel):
    info: str = ""
    items: dict[str, Any] = {}
    parameters: dict[str, Any] = {}


class State(BaseModel):
    skipped: bool = False
    interrupted: bool = False
    stopping_generation: bool = False
    job: str = ""
    job_count: int = 0
    job_timestamp: str = "0"
    job_no: int = 0
    sampling_step: int = 0
    sampling_steps: int = 0


class ProgressAnswer(BaseModel):
    """progress 0 .. 1; eta_relative in seconds; the defaults are the answer while nothing runs."""

    progress: float = 0.0
    eta_relative: float = 0.0
    state: State = State()
    current_image: str | None = None
    textinfo: str | None = None


class Sampler(BaseModel):
    name: str
    aliases: list[str]
    options: dict[str, str]


class Scheduler(BaseModel):
    name: str
    label: str
    aliases: list[str] | None
    default_rho: float
    need_inner_model: bool


class Upscaler(BaseModel):
    """scale: by which an upscaler's model enlarges; those without a model enlarge by any."""

    model_config = ConfigDict(protected_namespaces=())

    name: str
    model_name: str | None = None
    model_path: str | None = None
    model_url: str | None = None
    scale: float | None = None


class RealesrganModel(BaseModel):
    name: str
    path: str
    scale: int


class FaceRestorer(BaseModel):
    name: str
    cmd_dir: str | None


class LatentUpscaler(BaseModel):
    name: str


class Checkpoint(BaseModel):
    model_config = ConfigDict(protected_namespaces=())

    title: str
    model_name: str
    hash: str | None
    sha256: str | None
    filename: str
    config: str | None


class Vae(BaseModel):
    model_config = ConfigDict(protected_namespaces=())

    model_name: str
    filename: str


class Lora(BaseModel):
    name: str
    alias: str
    path: str
    metadata: dict[str, str]


class Embedding(BaseModel):
    """shape: numbers in each vector."""

    step: int | None = None
    sd_checkpoint: str | None = None
    sd_checkpoint_name: str | None = None
    shape: int
    vectors: int


class SkippedEmbedding(Embedding):
    reason: str


class Embeddings(BaseModel):
    """By name: those that fit the chosen checkpoint, and those that do not."""

    loaded: dict[str, Embedding]
    skipped: dict[str, SkippedEmbedding]


class Hypernetwork(BaseModel):
    name: str
    path: str


class Memory(BaseModel):
    ram: dict[str, Any]
    cuda: dict[str, Any]


class Scripts(BaseModel):
    """Titles in lower case."""

    txt2img: list[str]
    img2img: list[str]


class ScriptArgument(BaseModel):
    label: str
    value: Any
    minimum: float | None
    maximum: float | None
    step: float | None
    choices: list[str] | None


class ScriptInfo(BaseModel):
    """args: in the order of `script_args`."""

    name: str
    is_alwayson: bool
    is_img2img: bool
    args: list[ScriptArgument]
