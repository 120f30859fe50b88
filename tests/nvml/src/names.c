/* Texts for the caller, handles of devices, UUIDs and the order of MIG devices. */
#include "state.h"

#include <stdio.h>
#include <string.h>

nvmlReturn_t hand_out(Call *call, int gpu, nvmlDevice_t *device) {
    call->gpu = gpu;
    if (machine->gpus[gpu].lost) return NVML_ERROR_GPU_IS_LOST;
    *device = (nvmlDevice_t)(uintptr_t)handle_of(DEVICE_HANDLE, gpu, 0, 0, 0);
    return NVML_SUCCESS;
}

/* A MIG device's UUID follows from the GPU's and the ids: the same place gets the same UUID again, as from the driver. */
void mig_uuid(const Gpu *gpu, const GpuInstance *gi, const ComputeInstance *ci, char *text, size_t length) {
    uint64_t hash[2] = {0xcbf29ce484222325u, 0x9ae16a3b2f90404fu};
    char seed[128];
    snprintf(seed, sizeof seed, "%s/%d/%d", gpu->uuid, gi->id, ci->id);
    for (int half = 0; half < 2; half++)
        for (const char *c = seed; *c; c++) hash[half] = (hash[half] ^ (unsigned char)*c) * 0x100000001b3u;
    snprintf(text, length, "MIG-%08x-%04x-5%03x-%04x-%012llx", (unsigned)(hash[0] >> 32), (unsigned)(hash[0] >> 16 & 0xffff),
             (unsigned)(hash[0] & 0xfff), (unsigned)(hash[1] >> 48 & 0x3fff) | 0x8000u,
             (unsigned long long)(hash[1] & 0xffffffffffffu));
}

uint64_t mig_handle(int gpu, int gi_slot, int ci_slot) {
    return handle_of(MIG_HANDLE, gpu, gi_slot, ci_slot, machine->gpus[gpu].instances[gi_slot].compute[ci_slot].generation);
}

/* The MIG devices of a GPU in the order of (GPU instance id, compute instance id); returns the slot pair of one. */
int mig_device(const Gpu *gpu, int wanted, int *gi_slot, int *ci_slot) {
    int last = NONE;
    for (int n = 0; n <= wanted; n++) {
        int best = NONE;
        for (int i = 0; i < MAX_GPU_INSTANCES; i++)
            for (int c = 0; gpu->instances[i].used && c < MAX_COMPUTE_INSTANCES; c++) {
                int key = gpu->instances[i].id << 8 | gpu->instances[i].compute[c].id;
                if (!gpu->instances[i].compute[c].used || key <= last || (best != NONE && key > best)) continue;
                best = key;
                *gi_slot = i;
                *ci_slot = c;
            }
        if (best == NONE) return 0;
        last = best;
    }
    return 1;
}

nvmlReturn_t give(const char *text, char *buffer, unsigned int length) {
    if (!buffer) return NVML_ERROR_INVALID_ARGUMENT;
    if (strlen(text) + 1 > length) return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(buffer, text);
    return NVML_SUCCESS;
}
