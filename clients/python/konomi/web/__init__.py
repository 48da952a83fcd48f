"""The page: static files, images by digest and Connect-JSON, served by the client on this machine."""
