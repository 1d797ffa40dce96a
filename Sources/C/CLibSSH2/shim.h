#ifndef NASSYNC_CLIBSSH2_SHIM_H
#define NASSYNC_CLIBSSH2_SHIM_H
#include <libssh2.h>
#endif
