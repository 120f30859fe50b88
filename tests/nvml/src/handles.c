/* Handles: opaque to the caller, here numbers that say kind, GPU, slots and the generation of the instance.
 *
 * A handle of an instance that was destroyed is invalid, also after another one took its id. */
#include "state.h"

#include <string.h>

uint64_t handle_of(int kind, int gpu, int gi_slot, int ci_slot, int generation) {
    return (uint64_t)kind << 56 | (uint64_t)gpu << 48 | (uint64_t)gi_slot << 40 | (uint64_t)ci_slot << 32 |
           (uint32_t)generation;
}

int kind_of(const void *handle) {
    return (int)((uint64_t)(uintptr_t)handle >> 56);
}

/* GPU in a handle, NONE where it is no handle of ours. */
int gpu_of(const void *handle) {
    int kind = kind_of(handle);
    return kind >= DEVICE_HANDLE && kind <= CI_HANDLE ? (int)((uint64_t)(uintptr_t)handle >> 48 & 0xff) : NONE;
}

/* What a handle of the wanted kind stands for; fills in the ids of the call for the log. */
nvmlReturn_t resolve(Call *call, const void *handle, int kind, Object *object) {
    uint64_t bits = (uint64_t)(uintptr_t)handle;
    int index = gpu_of(handle), generation = (int)(uint32_t)bits;
    memset(object, 0, sizeof *object);
    if (kind_of(handle) != kind || index >= machine->gpu_count) return NVML_ERROR_INVALID_ARGUMENT;
    object->gpu_index = index;
    object->gpu = &machine->gpus[index];
    object->model = &machine->models[object->gpu->model];
    call->gpu = index;
    if (object->gpu->lost) return NVML_ERROR_GPU_IS_LOST;
    if (kind == DEVICE_HANDLE) return NVML_SUCCESS;

    object->gi_slot = (int)(bits >> 40 & 0xff);
    if (object->gi_slot >= MAX_GPU_INSTANCES) return NVML_ERROR_INVALID_ARGUMENT;
    object->gi = &object->gpu->instances[object->gi_slot];
    if (!object->gi->used || (kind == GI_HANDLE && object->gi->generation != generation)) return NVML_ERROR_INVALID_ARGUMENT;
    object->profile = &object->model->profiles[object->gi->profile];
    call->gi = object->gi->id;
    call->profile = object->profile->id;
    call->start = object->gi->start;
    if (kind == GI_HANDLE) return NVML_SUCCESS;

    object->ci_slot = (int)(bits >> 32 & 0xff);
    if (object->ci_slot >= MAX_COMPUTE_INSTANCES) return NVML_ERROR_INVALID_ARGUMENT;
    object->ci = &object->gi->compute[object->ci_slot];
    if (!object->ci->used || object->ci->generation != generation) return NVML_ERROR_INVALID_ARGUMENT;
    object->compute_profile = &object->profile->compute_profiles[object->ci->profile];
    call->ci = object->ci->id;
    return NVML_SUCCESS;
}

/* A GPU that can do MIG; NO_PERMISSION where the call needs a privileged user and this one is not. */
nvmlReturn_t resolve_mig_gpu(Call *call, nvmlDevice_t device, Object *object) {
    nvmlReturn_t result = resolve(call, device, DEVICE_HANDLE, object);
    if (result != NVML_SUCCESS) return result;
    if (!object->model->profile_count) return NVML_ERROR_NOT_SUPPORTED;
    if ((call->flags & PRIVILEGED) && machine->unprivileged) return NVML_ERROR_NO_PERMISSION;
    return NVML_SUCCESS;
}
