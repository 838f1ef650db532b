"""How a job that failed is answered: with its own error."""

from webui.core import errors
from webui.core.errors import EaselError, EngineError
from webui.service.job import Job


def failure(job: Job) -> EaselError:
    """The error with which a job failed, to be answered with its own name and HTTP status."""
    kind = getattr(errors, job.error_name, EngineError)
    error: EaselError = kind(job.error or "the job failed without a reason")
    error.status = job.error_status if 400 <= job.error_status < 600 else 500
    return error
