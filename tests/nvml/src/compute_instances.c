/* Compute instances inside a GPU instance: profiles, possible placements, creation, destruction, lists. */
#include "call.h"

#include <stdio.h>
#include <string.h>

static nvmlComputeInstanceProfileInfo_t describe(const Profile *profile, const ComputeProfile *compute) {
    return (nvmlComputeInstanceProfileInfo_t){
        (unsigned)compute->id, (unsigned)compute->slices, (unsigned)compute->max_count, (unsigned)compute->multiprocessors,
        (unsigned)profile->copy_engines, (unsigned)profile->engines[0], (unsigned)profile->engines[1],
        (unsigned)profile->engines[2], (unsigned)profile->engines[3]};
}

static void name_of(const Profile *profile, const ComputeProfile *compute, char *name, size_t length) {
    if (compute->slices < profile->slices) snprintf(name, length, "MIG %dc.%s", compute->slices, profile->name);
    else snprintf(name, length, "MIG %s", profile->name);
}

static const ComputeProfile *by_enumerator(const Profile *profile, unsigned int enumerator) {
    for (int i = 0; i < profile->compute_profile_count; i++)
        if (profile->compute_profiles[i].nvml_profile == (int)enumerator) return &profile->compute_profiles[i];
    return NULL;
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstanceProfileInfo(nvmlGpuInstance_t instance, unsigned int profile,
    unsigned int engines, nvmlComputeInstanceProfileInfo_t *info) {
    BEGIN(instance, READS | MIG);
    Object object;
    CHECK(resolve(&call, instance, GI_HANDLE, &object));
    REQUIRE(info && profile < 9 && engines == 0, NVML_ERROR_INVALID_ARGUMENT);
    const ComputeProfile *found = by_enumerator(object.profile, profile);
    REQUIRE(found, NVML_ERROR_NOT_SUPPORTED);
    *info = describe(object.profile, found);
    END(NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstanceProfileInfoV(nvmlGpuInstance_t instance, unsigned int profile,
    unsigned int engines, nvmlComputeInstanceProfileInfo_v2_t *info) {
    BEGIN(instance, READS | MIG);
    Object object;
    CHECK(resolve(&call, instance, GI_HANDLE, &object));
    REQUIRE(info && profile < 9 && engines == 0, NVML_ERROR_INVALID_ARGUMENT);
    const ComputeProfile *found = by_enumerator(object.profile, profile);
    REQUIRE(found, NVML_ERROR_NOT_SUPPORTED);
    int newer = info->version == STRUCT_VERSION(nvmlComputeInstanceProfileInfo_v3_t, 3);
    REQUIRE(newer || info->version == STRUCT_VERSION(nvmlComputeInstanceProfileInfo_v2_t, 2),
            NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    info->info = describe(object.profile, found);
    name_of(object.profile, found, info->name, sizeof info->name);
    if (newer) ((nvmlComputeInstanceProfileInfo_v3_t *)(void *)info)->capabilities = 0;
    END(NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstancePossiblePlacements(nvmlGpuInstance_t instance, unsigned int id,
    nvmlPlacement_t *placements, unsigned int *count) {
    BEGIN(instance, READS | MIG | PRIVILEGED);
    Object object;
    CHECK(resolve(&call, instance, GI_HANDLE, &object));
    PRIVILEGE();
    int found = find_compute_profile(object.profile, (int)id);
    REQUIRE(count && found != NONE, NVML_ERROR_INVALID_ARGUMENT);
    const ComputeProfile *profile = &object.profile->compute_profiles[found];
    if (placements && *count && *count < (unsigned)profile->start_count) END(NVML_ERROR_INSUFFICIENT_SIZE);
    for (int s = 0; placements && s < profile->start_count; s++)
        placements[s] = (nvmlPlacement_t){(unsigned)profile->starts[s], (unsigned)profile->extent};
    *count = (unsigned)profile->start_count;
    END(NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstanceRemainingCapacity(nvmlGpuInstance_t instance, unsigned int id,
    unsigned int *count) {
    BEGIN(instance, READS | MIG | PRIVILEGED);
    Object object;
    CHECK(resolve(&call, instance, GI_HANDLE, &object));
    PRIVILEGE();
    int found = find_compute_profile(object.profile, (int)id);
    REQUIRE(count && found != NONE, NVML_ERROR_INVALID_ARGUMENT);
    *count = (unsigned)compute_capacity(object.profile, object.gi, found);
    END(NVML_SUCCESS);
}

static nvmlComputeInstance_t handle_at(const Object *object, int slot) {
    return (nvmlComputeInstance_t)(uintptr_t)handle_of(CI_HANDLE, object->gpu_index, object->gi_slot, slot,
                                                       object->gi->compute[slot].generation);
}

static nvmlReturn_t create(Call *call, Object *object, int profile, int start, nvmlComputeInstance_t *instance) {
    int slot = 0, id = 0;
    if (call->do_nothing) {
        *instance = NOWHERE(CI_HANDLE, object->gpu_index);
        return NVML_SUCCESS;
    }
    while (slot < MAX_COMPUTE_INSTANCES && object->gi->compute[slot].used) slot++;
    if (slot == MAX_COMPUTE_INSTANCES) return NVML_ERROR_INSUFFICIENT_RESOURCES;
    for (int c = 0; c < MAX_COMPUTE_INSTANCES; c++)
        if (object->gi->compute[c].used && object->gi->compute[c].id == id) {
            id++;
            c = -1;
        }
    ComputeInstance *ci = &object->gi->compute[slot];
    ci->generation = ++machine->generation;
    ci->id = id;
    ci->profile = profile;
    ci->start = start;
    ci->used = 1;
    *instance = handle_at(object, slot);
    call->ci = id;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlGpuInstanceCreateComputeInstance(nvmlGpuInstance_t gi, unsigned int id, nvmlComputeInstance_t
    *instance) {
    BEGIN(gi, CHANGES | MIG | PRIVILEGED);
    Object object;
    CHECK(resolve(&call, gi, GI_HANDLE, &object));
    PRIVILEGE();
    int found = find_compute_profile(object.profile, (int)id);
    REQUIRE(instance && found != NONE, NVML_ERROR_INVALID_ARGUMENT);
    int fits = compute_allowed(object.profile, object.gi, found);
    int start = fits ? choose_compute_start(object.profile, object.gi, found) : NONE;
    REQUIRE(start != NONE, NVML_ERROR_INSUFFICIENT_RESOURCES);
    END(create(&call, &object, found, start, instance));
}

EXPORT nvmlReturn_t nvmlGpuInstanceCreateComputeInstanceWithPlacement(nvmlGpuInstance_t gi, unsigned int id, const
    nvmlPlacement_t *placement, nvmlComputeInstance_t *instance) {
    BEGIN(gi, CHANGES | MIG | PRIVILEGED);
    Object object;
    CHECK(resolve(&call, gi, GI_HANDLE, &object));
    PRIVILEGE();
    int found = find_compute_profile(object.profile, (int)id);
    REQUIRE(instance && placement && found != NONE, NVML_ERROR_INVALID_ARGUMENT);
    const ComputeProfile *profile = &object.profile->compute_profiles[found];
    REQUIRE(is_start(profile->starts, profile->start_count, (int)placement->start) &&
                placement->size == (unsigned)profile->extent,
            NVML_ERROR_INVALID_ARGUMENT);
    REQUIRE(compute_allowed(object.profile, object.gi, found) &&
                compute_free_at(object.profile, object.gi, found, (int)placement->start),
            NVML_ERROR_INSUFFICIENT_RESOURCES);
    END(create(&call, &object, found, (int)placement->start, instance));
}

EXPORT nvmlReturn_t nvmlComputeInstanceDestroy(nvmlComputeInstance_t instance) {
    BEGIN(instance, CHANGES | MIG | PRIVILEGED);
    Object object;
    CHECK(resolve(&call, instance, CI_HANDLE, &object));
    PRIVILEGE();
    REQUIRE(!busy(object.gpu_index, object.gi->id, object.ci->id), NVML_ERROR_IN_USE);
    if (!call.do_nothing) object.ci->used = 0;
    END(NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstances(nvmlGpuInstance_t gi, unsigned int id, nvmlComputeInstance_t
    *instances, unsigned int *count) {
    BEGIN(gi, READS | MIG | PRIVILEGED);
    Object object;
    CHECK(resolve(&call, gi, GI_HANDLE, &object));
    PRIVILEGE();
    int found = find_compute_profile(object.profile, (int)id);
    REQUIRE(count && instances && found != NONE, NVML_ERROR_INVALID_ARGUMENT);
    *count = 0;
    for (int c = 0; c < MAX_COMPUTE_INSTANCES; c++)
        if (object.gi->compute[c].used && object.gi->compute[c].profile == found)
            instances[(*count)++] = handle_at(&object, c);
    END(NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstanceById(nvmlGpuInstance_t gi, unsigned int id, nvmlComputeInstance_t
    *instance) {
    BEGIN(gi, READS | MIG | PRIVILEGED);
    Object object;
    CHECK(resolve(&call, gi, GI_HANDLE, &object));
    PRIVILEGE();
    REQUIRE(instance, NVML_ERROR_INVALID_ARGUMENT);
    for (int c = 0; c < MAX_COMPUTE_INSTANCES; c++)
        if (object.gi->compute[c].used && object.gi->compute[c].id == (int)id) {
            *instance = handle_at(&object, c);
            END(NVML_SUCCESS);
        }
    END(NVML_ERROR_NOT_FOUND);
}

EXPORT nvmlReturn_t nvmlComputeInstanceGetInfo_v2(nvmlComputeInstance_t instance, nvmlComputeInstanceInfo_t *info) {
    BEGIN(instance, READS | MIG);
    Object object;
    CHECK(resolve(&call, instance, CI_HANDLE, &object));
    REQUIRE(info, NVML_ERROR_INVALID_ARGUMENT);
    info->device = (nvmlDevice_t)(uintptr_t)handle_of(DEVICE_HANDLE, object.gpu_index, 0, 0, 0);
    info->gpuInstance =
        (nvmlGpuInstance_t)(uintptr_t)handle_of(GI_HANDLE, object.gpu_index, object.gi_slot, 0, object.gi->generation);
    info->id = (unsigned)object.ci->id;
    info->profileId = (unsigned)object.compute_profile->id;
    info->placement = (nvmlPlacement_t){(unsigned)object.ci->start, (unsigned)object.compute_profile->extent};
    END(NVML_SUCCESS);
}
