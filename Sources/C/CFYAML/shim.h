#ifndef NASSYNC_CFYAML_SHIM_H
#define NASSYNC_CFYAML_SHIM_H
#include <libfyaml.h>
#endif
