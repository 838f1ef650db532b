"""How a job that failed is answered: with its own error."""

from webui.core.errors import EaselError, error_of
from webui.service.job import Job


def failure(job: Job) -> EaselError:
    """The error with which a job failed, to be answered with its own name and HTTP status."""
    return error_of(job.error_name, job.error or "the job failed without a reason", job.error_status)
