/* How every function of the library begins and ends. */
#ifndef CALL_H
#define CALL_H

#include "state.h"

#define BEGIN(handle, kinds)                                                                                       \
    Call call = {__func__, kinds, gpu_of(handle), NONE, NONE, NONE, NONE, 0, 0, 0, 0};                              \
    nvmlReturn_t result = enter(&call);                                                                            \
    if (result != NVML_SUCCESS) return result
#define END(code) return leave(&call, code)
#define CHECK(expression)                                                                                          \
    do {                                                                                                           \
        nvmlReturn_t checked = (expression);                                                                       \
        if (checked != NVML_SUCCESS) END(checked);                                                                 \
    } while (0)
#define REQUIRE(condition, code)                                                                                   \
    do {                                                                                                           \
        if (!(condition)) END(code);                                                                               \
    } while (0)
#define PRIVILEGE()                                                                                                \
    REQUIRE(!((call.flags & PRIVILEGED) && machine->unprivileged), NVML_ERROR_NO_PERMISSION)

/* A handle that leads nowhere: what a call that claims success and does nothing hands out. */
#define NOWHERE(kind, gpu) ((void *)(uintptr_t)handle_of(kind, gpu, MAX_GPU_INSTANCES - 1, 0, -1))

#endif
