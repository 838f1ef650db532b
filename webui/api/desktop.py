"""POST /internal/pictures/{id}/folder -> {}: shows the picture's folder in the file manager, where only this machine is served."""

from fastapi import APIRouter, Request

from webui.api.roles import is_guest
from webui.core.errors import NotAllowed
from webui.service.desktop import open_folder
from webui.service.service import Service


def add_desktop_routes(router: APIRouter, service: Service) -> None:
    @router.post("/pictures/{picture_id}/folder")
    def folder(picture_id: int, request: Request) -> dict[str, str]:
        if not service.settings.single_user or is_guest(request):
            raise NotAllowed("folders open on the machine that Easel runs on, so only its own user may open them; save the file instead")
        open_folder(service.picture(picture_id).path.parent)
        return {}
