/* `nvidia-smi mig` commands that show what is there. */
#include "smi.h"

#include <stdio.h>

#define RULE_GI "+----------------------------------------------------------+\n"
#define RULE_CI "+--------------------------------------------------------------------+\n"
#define RULE_PROFILES "+-------------------------------------------------------------------------------+\n"

int list_gpu_instances(const Chosen *chosen) {
    int shown = 0;
    for (int g = 0; g < chosen->gpu_count; g++) {
        GpuInstance found[64];
        int count;
        nvmlReturn_t code = gpu_instances(&chosen->gpus[g], chosen->gi, found, &count);
        if (code == NVML_ERROR_NOT_FOUND) continue;
        if (code != NVML_SUCCESS) return complain("Failed to display GPU instances", code);
        if (!shown)
            printf(RULE_GI "| GPU instances:                                           |\n"
                           "| GPU   Name               Profile  Instance   Placement   |\n"
                           "|                            ID       ID       Start:Size  |\n"
                           "|==========================================================|\n");
        for (int i = 0; i < count; i++, shown++)
            printf("| %3u  %-18s %4u     %4u          %u:%-2u      |\n" RULE_GI, chosen->gpus[g].index,
                   found[i].profile.name, found[i].profile.id, found[i].info.id, found[i].info.placement.start,
                   found[i].info.placement.size);
    }
    return shown ? 0 : complain("No GPU instances found", NVML_ERROR_NOT_FOUND);
}

int list_compute_instances(const Chosen *chosen) {
    int shown = 0;
    for (int g = 0; g < chosen->gpu_count; g++) {
        GpuInstance gis[64];
        int gi_count;
        nvmlReturn_t code = gpu_instances(&chosen->gpus[g], chosen->gi, gis, &gi_count);
        if (code != NVML_SUCCESS && code != NVML_ERROR_NOT_FOUND) return complain("Failed to display compute instances", code);
        for (int i = 0; i < gi_count; i++) {
            ComputeInstance found[16];
            int count;
            code = compute_instances(&gis[i], chosen->ci, found, &count);
            if (code == NVML_ERROR_NOT_FOUND) continue;
            if (code != NVML_SUCCESS) return complain("Failed to display compute instances", code);
            if (!shown)
                printf(RULE_CI "| Compute instances:                                                 |\n"
                               "| GPU     GPU       Name             Profile   Instance   Placement  |\n"
                               "|       Instance                       ID        ID       Start:Size |\n"
                               "|         ID                                                         |\n"
                               "|====================================================================|\n");
            for (int c = 0; c < count; c++, shown++)
                printf("| %3u   %4u       %-18s %3u       %3u          %u:%-2u    |\n" RULE_CI, chosen->gpus[g].index,
                       gis[i].info.id, found[c].profile.name, found[c].info.profileId, found[c].info.id,
                       found[c].info.placement.start, found[c].info.placement.size);
        }
    }
    return shown ? 0 : complain("No compute instances found", NVML_ERROR_NOT_FOUND);
}

int list_profiles(const Chosen *chosen) {
    int shown = 0;
    for (int g = 0; g < chosen->gpu_count; g++) {
        GpuProfile profiles[0x12];
        int count = gpu_profiles(&chosen->gpus[g], profiles);
        for (int p = 0; p < count; p++, shown++) {
            const GpuProfile *profile = &profiles[p];
            unsigned int left = 0;
            nvmlDeviceGetGpuInstanceRemainingCapacity(chosen->gpus[g].device, profile->id, &left);
            if (!shown)
                printf(RULE_PROFILES "| GPU instance profiles:                                                        |\n"
                                     "| GPU   Name               ID    Instances   Memory     P2P    SM    DEC   ENC  |\n"
                                     "|                                Free/Total   GiB              CE    JPEG  OFA  |\n"
                                     "|===============================================================================|\n");
            printf("| %3u  %-18s %3u   %3u/%-3u     %6.2f      %-3s   %3u   %3u   %3u   |\n", chosen->gpus[g].index,
                   profile->name, profile->id, left, profile->instanceCount, (double)profile->memorySizeMB / 1024,
                   profile->isP2pSupported ? "Yes" : "No", profile->multiprocessorCount, profile->decoderCount,
                   profile->encoderCount);
            printf("|                                                             %3u   %3u   %3u   |\n" RULE_PROFILES,
                   profile->copyEngineCount, profile->jpegCount, profile->ofaCount);
        }
    }
    if (shown) return 0;
    printf("No MIG-supported devices found.\n");
    return 6;
}

int list_placements(const Chosen *chosen) {
    int shown = 0;
    for (int g = 0; g < chosen->gpu_count; g++) {
        GpuProfile profiles[0x12];
        int count = gpu_profiles(&chosen->gpus[g], profiles);
        for (int p = 0; p < count; p++, shown++) {
            nvmlPlacement_t placements[64];
            unsigned int number = 64;
            nvmlReturn_t code =
                nvmlDeviceGetGpuInstancePossiblePlacements_v2(chosen->gpus[g].device, profiles[p].id, placements, &number);
            if (code != NVML_SUCCESS) return complain("Failed to display GPU instance placements", code);
            printf("GPU %2u Profile ID %2u %s: {", chosen->gpus[g].index, profiles[p].id,
                   number == 1 ? "Placement " : "Placements");
            for (unsigned int s = 0; s < number; s++) printf("%s%u", s ? "," : "", placements[s].start);
            printf("}:%u\n", placements[0].size);
        }
    }
    if (shown) return 0;
    printf("No MIG-supported devices found.\n");
    return 6;
}
