/* GPU instances: profiles, possible placements, creation, destruction, lists. */
#include "call.h"

#include <stdio.h>
#include <string.h>

/* -- profiles ----------------------------------------------------------------------------------------------------- */

static nvmlGpuInstanceProfileInfo_v2_t describe(const Profile *profile) {
    nvmlGpuInstanceProfileInfo_v2_t info = {0};
    info.id = (unsigned)profile->id;
    info.isP2pSupported = (unsigned)profile->capabilities & 1;
    info.sliceCount = (unsigned)profile->slices;
    info.instanceCount = (unsigned)profile->max_count;
    info.multiprocessorCount = (unsigned)profile->multiprocessors;
    info.copyEngineCount = (unsigned)profile->copy_engines;
    info.decoderCount = (unsigned)profile->engines[0];
    info.encoderCount = (unsigned)profile->engines[1];
    info.jpegCount = (unsigned)profile->engines[2];
    info.ofaCount = (unsigned)profile->engines[3];
    info.memorySizeMB = (unsigned long long)profile->memory_mib;
    snprintf(info.name, sizeof info.name, "MIG %s", profile->name);
    return info;
}

static const Profile *by_enumerator(const Model *model, unsigned int enumerator) {
    for (int i = 0; i < model->profile_count; i++)
        if (model->profiles[i].nvml_profile == (int)enumerator) return &model->profiles[i];
    return NULL;
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfo(nvmlDevice_t device, unsigned int profile,
    nvmlGpuInstanceProfileInfo_t *info) {
    BEGIN(device, READS | MIG);
    Object object;
    CHECK(resolve_mig_gpu(&call, device, &object));
    REQUIRE(info && profile < 0x12, NVML_ERROR_INVALID_ARGUMENT);
    const Profile *found = by_enumerator(object.model, profile);
    REQUIRE(found, NVML_ERROR_NOT_SUPPORTED);
    nvmlGpuInstanceProfileInfo_v2_t all = describe(found);
    memcpy(info, &all.id, 10 * sizeof(unsigned int));
    info->memorySizeMB = all.memorySizeMB;
    END(NVML_SUCCESS);
}

/* The caller says which version of the struct it has; v2 and v3 have the same size. */
static nvmlReturn_t describe_version(const Profile *found, nvmlGpuInstanceProfileInfo_v2_t *info) {
    nvmlGpuInstanceProfileInfo_v2_t all = describe(found);
    if (info->version == STRUCT_VERSION(nvmlGpuInstanceProfileInfo_v2_t, 2)) {
        all.version = info->version;
        *info = all;
        return NVML_SUCCESS;
    }
    if (info->version == STRUCT_VERSION(nvmlGpuInstanceProfileInfo_v3_t, 3)) {
        nvmlGpuInstanceProfileInfo_v3_t newer = {0};
        newer.version = info->version;
        newer.id = all.id;
        memcpy(&newer.sliceCount, &all.sliceCount, 8 * sizeof(unsigned int));
        newer.memorySizeMB = all.memorySizeMB;
        memcpy(newer.name, all.name, sizeof newer.name);
        newer.capabilities = (unsigned)found->capabilities;
        memcpy(info, &newer, sizeof newer);
        return NVML_SUCCESS;
    }
    return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfoV(nvmlDevice_t device, unsigned int profile,
    nvmlGpuInstanceProfileInfo_v2_t *info) {
    BEGIN(device, READS | MIG);
    Object object;
    CHECK(resolve_mig_gpu(&call, device, &object));
    REQUIRE(info && profile < 0x12, NVML_ERROR_INVALID_ARGUMENT);
    const Profile *found = by_enumerator(object.model, profile);
    REQUIRE(found, NVML_ERROR_NOT_SUPPORTED);
    END(describe_version(found, info));
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfoByIdV(nvmlDevice_t device, unsigned int id,
    nvmlGpuInstanceProfileInfo_v2_t *info) {
    BEGIN(device, READS | MIG);
    Object object;
    CHECK(resolve_mig_gpu(&call, device, &object));
    int found = find_profile(object.model, (int)id);
    REQUIRE(info && found != NONE, NVML_ERROR_INVALID_ARGUMENT);
    END(describe_version(&object.model->profiles[found], info));
}

/* -- placements --------------------------------------------------------------------------------------------------- */

/* Answers with MIG off too, but only to a privileged user. */
EXPORT nvmlReturn_t nvmlDeviceGetGpuInstancePossiblePlacements_v2(nvmlDevice_t device, unsigned int id,
    nvmlPlacement_t *placements, unsigned int *count) {
    BEGIN(device, READS | MIG | PRIVILEGED);
    Object object;
    call.profile = (int)id;
    CHECK(resolve_mig_gpu(&call, device, &object));
    int found = find_profile(object.model, (int)id);
    REQUIRE(count && found != NONE, NVML_ERROR_INVALID_ARGUMENT);
    const Profile *profile = &object.model->profiles[found];
    if (placements && *count && *count < (unsigned)profile->start_count) END(NVML_ERROR_INSUFFICIENT_SIZE);
    for (int s = 0; placements && s < profile->start_count; s++)
        placements[s] = (nvmlPlacement_t){(unsigned)profile->starts[s], (unsigned)profile->extent};
    *count = (unsigned)profile->start_count;
    END(NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceRemainingCapacity(nvmlDevice_t device, unsigned int id, unsigned int
    *count) {
    BEGIN(device, READS | MIG | PRIVILEGED);
    Object object;
    call.profile = (int)id;
    CHECK(resolve_mig_gpu(&call, device, &object));
    REQUIRE(object.gpu->mode, NVML_ERROR_NOT_SUPPORTED);
    int found = find_profile(object.model, (int)id);
    REQUIRE(count && found != NONE, NVML_ERROR_INVALID_ARGUMENT);
    *count = (unsigned)capacity(object.model, object.gpu, found);
    END(NVML_SUCCESS);
}

/* -- creation ----------------------------------------------------------------------------------------------------- */

static nvmlReturn_t create(Call *call, Object *object, int profile, int start, nvmlGpuInstance_t *instance) {
    int slot = 0;
    if (call->do_nothing) {
        *instance = NOWHERE(GI_HANDLE, object->gpu_index);
        return NVML_SUCCESS;
    }
    while (slot < MAX_GPU_INSTANCES && object->gpu->instances[slot].used) slot++;
    if (slot == MAX_GPU_INSTANCES) return NVML_ERROR_INSUFFICIENT_RESOURCES;
    GpuInstance *gi = &object->gpu->instances[slot];
    int id = instance_id(object->model, object->gpu, profile, start);
    memset(gi, 0, sizeof *gi);
    gi->generation = ++machine->generation;
    gi->id = id;
    gi->profile = profile;
    gi->start = start;
    gi->used = 1; /* last: a process that dies here leaves no half instance */
    *instance = (nvmlGpuInstance_t)(uintptr_t)handle_of(GI_HANDLE, object->gpu_index, slot, 0, gi->generation);
    call->gi = id;
    call->start = start;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceCreateGpuInstance(nvmlDevice_t device, unsigned int id, nvmlGpuInstance_t *instance) {
    BEGIN(device, CHANGES | MIG | PRIVILEGED);
    Object object;
    call.profile = (int)id;
    CHECK(resolve_mig_gpu(&call, device, &object));
    REQUIRE(object.gpu->mode, NVML_ERROR_NOT_SUPPORTED);
    int found = find_profile(object.model, (int)id);
    REQUIRE(instance && found != NONE, NVML_ERROR_INVALID_ARGUMENT);
    REQUIRE(!held(object.gpu_index), NVML_ERROR_IN_USE);
    int start = allowed(object.model, object.gpu, found) ? choose_start(object.model, object.gpu, found) : NONE;
    REQUIRE(start != NONE, NVML_ERROR_INSUFFICIENT_RESOURCES);
    END(create(&call, &object, found, start, instance));
}

EXPORT nvmlReturn_t nvmlDeviceCreateGpuInstanceWithPlacement(nvmlDevice_t device, unsigned int id, const
    nvmlPlacement_t *placement, nvmlGpuInstance_t *instance) {
    BEGIN(device, CHANGES | MIG | PRIVILEGED);
    Object object;
    call.profile = (int)id;
    CHECK(resolve_mig_gpu(&call, device, &object));
    REQUIRE(object.gpu->mode, NVML_ERROR_NOT_SUPPORTED);
    int found = find_profile(object.model, (int)id);
    REQUIRE(instance && placement && found != NONE, NVML_ERROR_INVALID_ARGUMENT);
    const Profile *profile = &object.model->profiles[found];
    int start = (int)placement->start;
    call.start = start;
    REQUIRE(is_start(profile->starts, profile->start_count, start) && placement->size == (unsigned)profile->extent,
            NVML_ERROR_INVALID_ARGUMENT);
    REQUIRE(!held(object.gpu_index), NVML_ERROR_IN_USE);
    REQUIRE(allowed(object.model, object.gpu, found) && free_at(object.model, object.gpu, found, start),
            NVML_ERROR_INSUFFICIENT_RESOURCES);
    END(create(&call, &object, found, start, instance));
}

EXPORT nvmlReturn_t nvmlGpuInstanceDestroy(nvmlGpuInstance_t instance) {
    BEGIN(instance, CHANGES | MIG | PRIVILEGED);
    Object object;
    CHECK(resolve(&call, instance, GI_HANDLE, &object));
    PRIVILEGE();
    REQUIRE(!busy(object.gpu_index, object.gi->id, NONE), NVML_ERROR_IN_USE);
    for (int c = 0; c < MAX_COMPUTE_INSTANCES; c++) REQUIRE(!object.gi->compute[c].used, NVML_ERROR_IN_USE);
    if (!call.do_nothing) object.gi->used = 0;
    END(NVML_SUCCESS);
}

/* -- lists -------------------------------------------------------------------------------------------------------- */

static nvmlGpuInstance_t handle_at(const Object *object, int slot) {
    int generation = object->gpu->instances[slot].generation;
    return (nvmlGpuInstance_t)(uintptr_t)handle_of(GI_HANDLE, object->gpu_index, slot, 0, generation);
}

/* The caller's buffer holds as many as the profile's maximum; NVML does not read the count. */
EXPORT nvmlReturn_t nvmlDeviceGetGpuInstances(nvmlDevice_t device, unsigned int id, nvmlGpuInstance_t *instances,
    unsigned int *count) {
    BEGIN(device, READS | MIG | PRIVILEGED);
    Object object;
    call.profile = (int)id;
    CHECK(resolve_mig_gpu(&call, device, &object));
    REQUIRE(object.gpu->mode, NVML_ERROR_NOT_SUPPORTED);
    int found = find_profile(object.model, (int)id);
    REQUIRE(count && instances && found != NONE, NVML_ERROR_INVALID_ARGUMENT);
    *count = 0;
    for (int i = 0; i < MAX_GPU_INSTANCES; i++)
        if (object.gpu->instances[i].used && object.gpu->instances[i].profile == found)
            instances[(*count)++] = handle_at(&object, i);
    END(NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceById(nvmlDevice_t device, unsigned int id, nvmlGpuInstance_t *instance) {
    BEGIN(device, READS | MIG | PRIVILEGED);
    Object object;
    call.gi = (int)id;
    CHECK(resolve_mig_gpu(&call, device, &object));
    REQUIRE(object.gpu->mode, NVML_ERROR_NOT_SUPPORTED);
    REQUIRE(instance, NVML_ERROR_INVALID_ARGUMENT);
    for (int i = 0; i < MAX_GPU_INSTANCES; i++)
        if (object.gpu->instances[i].used && object.gpu->instances[i].id == (int)id) {
            *instance = handle_at(&object, i);
            END(NVML_SUCCESS);
        }
    END(NVML_ERROR_NOT_FOUND);
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetInfo(nvmlGpuInstance_t instance, nvmlGpuInstanceInfo_t *info) {
    BEGIN(instance, READS | MIG);
    Object object;
    CHECK(resolve(&call, instance, GI_HANDLE, &object));
    REQUIRE(info, NVML_ERROR_INVALID_ARGUMENT);
    info->device = (nvmlDevice_t)(uintptr_t)handle_of(DEVICE_HANDLE, object.gpu_index, 0, 0, 0);
    info->id = (unsigned)object.gi->id;
    info->profileId = (unsigned)object.profile->id;
    info->placement = (nvmlPlacement_t){(unsigned)object.gi->start, (unsigned)object.profile->extent};
    END(NVML_SUCCESS);
}
