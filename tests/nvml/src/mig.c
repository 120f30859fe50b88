/* MIG devices, MIG mode, reset. */
#include "call.h"

#include <string.h>

/* -- MIG devices -------------------------------------------------------------------------------------------------- */

EXPORT nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned int *is_mig) {
    BEGIN(device, READS | MIG);
    REQUIRE(is_mig && gpu_of(device) != NONE, NVML_ERROR_INVALID_ARGUMENT);
    *is_mig = kind_of(device) == MIG_HANDLE;
    END(NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t device, unsigned int *id) {
    BEGIN(device, READS | MIG);
    Object object;
    CHECK(resolve(&call, device, MIG_HANDLE, &object));
    REQUIRE(id, NVML_ERROR_INVALID_ARGUMENT);
    *id = (unsigned)object.gi->id;
    END(NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t device, unsigned int *id) {
    BEGIN(device, READS | MIG);
    Object object;
    CHECK(resolve(&call, device, MIG_HANDLE, &object));
    REQUIRE(id, NVML_ERROR_INVALID_ARGUMENT);
    *id = (unsigned)object.ci->id;
    END(NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned int *count) {
    BEGIN(device, READS | MIG);
    Object object;
    CHECK(resolve(&call, device, DEVICE_HANDLE, &object));
    REQUIRE(count, NVML_ERROR_INVALID_ARGUMENT);
    *count = object.gpu->mode ? (unsigned)object.model->max_instances : 0;
    END(NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned int index, nvmlDevice_t *mig) {
    BEGIN(device, READS | MIG);
    Object object;
    int gi_slot, ci_slot;
    CHECK(resolve_mig_gpu(&call, device, &object));
    REQUIRE(mig && index < 64, NVML_ERROR_INVALID_ARGUMENT);
    REQUIRE(mig_device(object.gpu, (int)index, &gi_slot, &ci_slot), NVML_ERROR_NOT_FOUND);
    *mig = (nvmlDevice_t)(uintptr_t)mig_handle(object.gpu_index, gi_slot, ci_slot);
    END(NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t mig, nvmlDevice_t *device) {
    BEGIN(mig, READS | MIG);
    Object object;
    CHECK(resolve(&call, mig, MIG_HANDLE, &object));
    REQUIRE(device, NVML_ERROR_INVALID_ARGUMENT);
    END(hand_out(&call, object.gpu_index, device));
}

/* -- MIG mode ----------------------------------------------------------------------------------------------------- */

static int has_instances(const Gpu *gpu) {
    for (int i = 0; i < MAX_GPU_INSTANCES; i++)
        if (gpu->instances[i].used) return 1;
    return 0;
}

EXPORT nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *current, unsigned int *pending) {
    BEGIN(device, READS | MIG);
    Object object;
    CHECK(resolve_mig_gpu(&call, device, &object));
    REQUIRE(current && pending, NVML_ERROR_INVALID_ARGUMENT);
    *current = (unsigned)object.gpu->mode;
    *pending = (unsigned)object.gpu->pending;
    END(NVML_SUCCESS);
}

/* The mode is pending at once and active when nothing uses the GPU (NVML resets it where the GPU needs that). */
EXPORT nvmlReturn_t nvmlDeviceSetMigMode(nvmlDevice_t device, unsigned int mode, nvmlReturn_t *activation) {
    BEGIN(device, CHANGES | MIG | PRIVILEGED);
    Object object;
    CHECK(resolve_mig_gpu(&call, device, &object));
    REQUIRE(activation && mode <= 1, NVML_ERROR_INVALID_ARGUMENT);
    Gpu *gpu = object.gpu;
    *activation = NVML_SUCCESS;
    call.start = (int)mode;
    if (call.do_nothing) END(NVML_SUCCESS);
    gpu->pending = (int)mode;
    if (gpu->mode == gpu->pending) END(NVML_SUCCESS);
    if (call.activation) *activation = (nvmlReturn_t)call.activation;
    else if (busy(object.gpu_index, NONE, NONE) || has_instances(gpu)) *activation = NVML_ERROR_IN_USE;
    else if (gpu->activation) *activation = (nvmlReturn_t)gpu->activation;
    else gpu->mode = (int)mode;
    END(NVML_SUCCESS);
}

/* `nvidia-smi --gpu-reset`: instances go, a pending mode becomes active. */
EXPORT nvmlReturn_t standinResetGpu(unsigned int index) {
    BEGIN((void *)(uintptr_t)handle_of(DEVICE_HANDLE, (int)(index & 0xff), 0, 0, 0), CHANGES | PRIVILEGED);
    REQUIRE(index < (unsigned)machine->gpu_count, NVML_ERROR_INVALID_ARGUMENT);
    PRIVILEGE();
    Gpu *gpu = &machine->gpus[index];
    REQUIRE(!gpu->lost, NVML_ERROR_GPU_IS_LOST);
    REQUIRE(gpu->activation != NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_NOT_SUPPORTED);
    REQUIRE(!busy((int)index, NONE, NONE), NVML_ERROR_IN_USE);
    if (call.do_nothing) END(NVML_SUCCESS);
    memset(gpu->instances, 0, sizeof gpu->instances);
    gpu->mode = gpu->pending;
    END(NVML_SUCCESS);
}
