"""Requests to an Application without a connection."""

from nbkeras.serving.http import Request


def begun(application, method, path, headers, address=None):
    """A request whose headers have arrived. headers: a dict of strings; `_` means `-`."""
    pairs = [(name.replace("_", "-").encode(), f"{value}".encode()) for name, value in headers.items()]
    request = Request(method, path, b"", pairs, address)
    application.begin(request)
    return request


async def exchange(application, method, path, headers, *parts, address=None):
    """(status, headers, body) of the answer to a request whose body arrives in parts."""
    request = begun(application, method, path, headers, address)
    for part in parts:
        if not request.is_ready:
            request.take(part)
    request.is_ready = True
    return await answered(application, request)


async def answered(application, request):
    """(status, headers, body) of the answer to a request whose body has arrived."""
    if request.error is not None:
        status, headers, body = application.failed(request, request.error)
    else:
        status, headers, body = await application.answer(request)
    return status, {name.decode(): value.decode() for name, value in headers}, body
